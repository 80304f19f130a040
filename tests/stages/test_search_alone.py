"""The search alone, on a run that is there: `jobs/tune.py` searches anew, and the pipeline goes on from its winner.

What comes before the search isn't made but laid down, under the keys that the pipeline asks for; the search is real.
"""

import shutil
import sys
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from raydistill.core.config import Config
from raydistill.core.errors import ConfigError, InputError
from raydistill.core.loading import load_config
from raydistill.core.store import Store
from raydistill.data.prompts import FREQUENCIES, SHARING
from raydistill.pipeline import wire
from raydistill.report.html import PAGE
from raydistill.runner import Runner
from raydistill.running import finish, run_alone
from raydistill.stages.base import Outcome
from raydistill.stages.ingest import Ingest
from raydistill.stages.tune import Tune
from tests.golden.conftest import ENVIRONMENT, finished
from tests.report.builder import FINDINGS, NODES, build

BEFORE = Config(name="alone", tune={"num_trials": 1}, evaluate={"probe_steps": 2}, cluster={"num_cpus": 2})
CHANGED = {
    "tune.num_trials": "6",
    "tune.goal": "pareto",
    "tune.candidates": "2",
    "tune.max_reidentification_rate": "1",
    "tune.max_near_copy_rate": "1",
    "tune.space.target_fpir": "[0.01, 0.4]",
    "tune.space.balance": "[0, 1]",
}


@pytest.fixture
def run(tmp_path):
    """A run that has got as far as its verdicts, and knows the real classifier; its store, and its search's key."""
    whole, _ = build(tmp_path / "whole")
    laid, store = whole.run.path, Store.open(str(tmp_path / "run"))

    def lay(stage):
        def run(context):
            if stage.node in NODES:
                context.out.upload(f"{laid}/{stage.node}/{whole.manifests[stage.node].key}", "")
                context.out.delete("manifest.json")
            if stage.node in COMPLETED:
                COMPLETED[stage.node](context.out)
            return Outcome(facts=whole.manifests[stage.node].facts if stage.node in NODES else {})

        stage.run = run

    runner = Runner(store, BEFORE, wire(BEFORE))
    runner.open()
    nodes = [stage.node for stage in runner.stages]
    done = [*runner.stages[: nodes.index("verdicts") + 1], runner.stages[nodes.index("real_evaluation")]]
    for stage in done:
        lay(stage)
        runner.execute(stage)
    finish(runner, dict.fromkeys(nodes, "pending") | {stage.node: "done" for stage in done})
    return store, runner.manifests["tune"].key


def cohort(ingest):
    """Add what the report doesn't read; every other calibration image has a finding."""
    real = ingest.read_table("calibration")
    labels = pa.array([["nodule"] if number % 2 else ["effusion"] for number in range(len(real))])
    ingest.write_table("calibration/part-00000.parquet", real.set_column(5, real.schema.field(5), labels))
    prompt = "chest x-ray, pa view, nodule"
    ingest.write_table("prompts/part-0.parquet", pa.Table.from_pylist([{"prompt": prompt, "count": 9}], FREQUENCIES))
    ingest.write_table("sharing/part-0.parquet", pa.Table.from_pylist([{"prompt": prompt, "patients": 9}], SHARING))
    ingest.write_json("findings/findings.json", {"findings": list(FINDINGS)})
    ingest.write_json("cohort/cohort.json", {})


def judged(matches):
    """Let the judge see what the filter sees."""
    matches.upload(f"{matches.path}/filter", "judge")


def planted(selftest):
    """Say whom planted pictures resemble."""
    table = selftest.read_table("planted")
    for name in ("nearest_image_id", "nearest_patient_id", "structure_image_id"):
        table = table.append_column(name, table["image_id"])
    selftest.write_table("planted/part-00000.parquet", table)


COMPLETED = {"ingest": cohort, "teacher_matches": judged, "selftest": planted}


def test_a_search_without_what_it_reads_is_refused_and_changes_nothing(run):
    store, _ = run
    before = {entry.path: entry.sha256 for entry in store.fingerprint()}
    line = [sys.executable, "jobs/tune.py", "--run-dir", store.uri, "--set", "teacher_samples.num_samples=64"]
    said = finished(line, **ENVIRONMENT)
    assert said.returncode == 2
    assert "tune reads what teacher_samples makes" in said.stderr
    assert {entry.path: entry.sha256 for entry in store.fingerprint()} == before


@dataclass
class Found:
    """What every search finds here; it needs no Ray."""

    policy: dict
    searches: list = field(default_factory=list)

    def run(self, stage, context):
        self.searches.append(stage.config.tune.num_trials)
        context.out.write_json("policy/policy.json", self.policy)
        context.out.write_json("metrics.json", {})
        return Outcome()


@pytest.fixture
def found(run, monkeypatch):
    store, key = run
    found = Found((store / "tune" / key).read_json("policy/policy.json"))
    monkeypatch.setattr(Tune, "run", lambda stage, context: found.run(stage, context))
    monkeypatch.setattr("raydistill.running._connect", lambda *arguments: None)
    monkeypatch.setattr("raydistill.running._say_what_is_waited_for", lambda *arguments: None)
    monkeypatch.setattr("raydistill.report.html.render", lambda *arguments, **options: "a page")
    return found


def alone(store, **changes):
    """Search by the run's own configuration and what is changed; return the summary then."""
    own = load_config(f"{store.path}/config.yaml")
    changed = own.model_dump(mode="json") | {"tune": own.tune.model_dump(mode="json") | changes}
    run_alone(Config(**changed), "tune", store.uri)
    return store.read_json("summary.json")


def states(summary):
    return {node: entry["state"] for node, entry in summary["nodes"].items()}


def test_a_search_asks_for_what_it_reads_and_for_nothing_else(run, found, monkeypatch):
    """Neither the source nor what comes before the search without being read by it has to be there."""
    store, before = run
    store.delete("selftest")

    def gone(self):
        raise InputError("the source is gone")

    monkeypatch.setattr(Ingest, "fingerprint", property(gone))
    monkeypatch.setattr(Ingest, "check", lambda *arguments: gone(None))
    after = alone(store, num_trials=3)
    assert after["nodes"]["tune"]["key"] != before
    assert states(after)["selftest"] == "pending"
    assert states(after)["real_evaluation"] == "cached"
    store.delete("teacher_samples")
    with pytest.raises(InputError, match="tune reads what teacher_samples makes"):
        alone(store, num_trials=4)
    assert found.searches == [3]


def test_a_policy_that_is_not_there_is_refused_before_any_trial(run, found):
    store, _ = run
    config = load_config(f"{store.path}/config.yaml", ["filter.policy={factory: 'nowhere:Policy'}"])
    with pytest.raises(ConfigError, match=r"tune: .*nowhere"):
        run_alone(config, "tune", store.uri)
    assert not found.searches


def test_what_the_run_knows_of_another_configuration_is_not_taken_as_given(run, found):
    store, _ = run
    config = load_config(f"{store.path}/config.yaml", ["teacher_samples.num_samples=64"])
    with pytest.raises(InputError, match="tune reads what teacher_samples makes"):
        run_alone(config, "tune", store.uri)


def test_what_stays_current_stays(run, found, monkeypatch):
    store, _ = run
    summary = alone(store, num_trials=3)
    assert states(summary)["verdicts"] == "cached"
    found.policy |= {"note": "another"}
    summary = alone(store, num_trials=4)
    assert states(summary)["verdicts"] == "pending"
    assert states(summary)["real_evaluation"] == "cached"
    assert found.searches == [3, 4]
    alone(store)
    assert found.searches == [3, 4]


class Killed(BaseException):
    """As by SIGKILL: nothing catches it, and nothing is put in order."""


def killed_at(monkeypatch, number):
    """Kill at a write or a deletion, by its number from 1, of a file or a folder; the file is left in part."""
    counted, write, delete = [], Store.write_bytes, Store.delete

    def counting(act, leave):
        def counted_act(store, name="", *arguments):
            counted.append(name)
            if len(counted) == number:
                leave(store, name)
                raise Killed
            act(store, name, *arguments)

        return counted_act

    monkeypatch.setattr(Store, "write_bytes", counting(write, lambda s, n: write(s, f"{n}.0.partial", b"half")))
    monkeypatch.setattr(Store, "delete", counting(delete, lambda s, n: None))


def test_killed_at_any_moment_the_same_search_comes_to_what_it_would_have(run, found, tmp_path):
    """Before it has ended the run is what it was; afterwards nothing of the former search is said to be current."""
    store, _ = run
    found.policy |= {"note": "another"}
    place = tmp_path / "killed"

    def copied():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(store.path, place)
        return Store.open(str(place))

    def told(run):
        summary = run.read_json("summary.json")
        assert run.read_bytes(PAGE)
        for entry in summary["nodes"].values():
            del entry["seconds"]
        return summary, run.read_bytes("config.yaml")

    whole = copied()
    alone(whole, num_trials=3)
    right, number, was_killed = told(whole), 0, True
    while was_killed:
        number, run = number + 1, copied()
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, number)
            try:
                alone(run, num_trials=3)
                was_killed = False
            except Killed:
                pass
        alone(run, num_trials=3)
        assert told(run) == right, f"killed at write {number}"
    assert number > 8


@pytest.mark.ray
@pytest.mark.slow
def test_the_search_alone_searches_anew_and_the_pipeline_goes_on_from_its_winner(run):
    store, before = run
    line = [sys.executable, "jobs/tune.py", "--run-dir", store.uri]
    said = finished([*line, *(part for pair in CHANGED.items() for part in ("--set", "=".join(pair)))], **ENVIRONMENT)
    assert said.returncode == 0, said.stderr[-3000:]
    assert "note: 15 calibration patients can't support a target_fpir of 0.01; nothing under 0.0625" in said.stderr
    assert f"go on: raydistill run --config {store.uri}/config.yaml --run-dir {store.uri}" in said.stdout

    # As that line goes on.
    config = load_config(f"{store.path}/config.yaml")
    assert config.tune.goal == "pareto"
    runner = Runner(store, config, wire(config))
    states = {planned.node: planned.state for planned in runner.plan()}
    assert (states["selftest"], states["tune"], states["verdicts"]) == ("cached", "cached", "to run")
    found = runner.manifests["tune"]
    assert found.key != before
    assert runner.artifact("tune", before).exists("policy/policy.json")

    tune = runner.artifact("tune", found.key)
    trials = tune.read_table("trials").to_pandas()
    assert len(trials) == 6
    best = trials[trials["chosen"]].iloc[0]
    assert best["feasible"]
    assert best["pareto"]
    assert best["networks"] == trials["networks"].max() == 2
    policy = tune.read_json("policy/policy.json")
    assert (policy["target_fpir"], policy["selection"]["balance"]) == (best["target_fpir"], best["balance"])
    assert policy["note"].startswith("15 calibration patients can't support a target_fpir of 0.01")

    verdicts, was_there = runner.execute(next(stage for stage in runner.stages if stage.node == "verdicts"))
    assert not was_there
    assert verdicts.facts["policy"] == policy
    table = runner.artifact("verdicts", verdicts.key).read_table("verdicts").to_pandas()
    assert verdicts.counts["kept"] == table["keep"].sum() > 0
    assert not (table["keep"] & (table["score"] >= policy["identity_threshold"])).any()
    assert {planned.node: planned.state for planned in runner.plan()}["student_latents"] == "to run"
