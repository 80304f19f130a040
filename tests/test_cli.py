"""The command line: a user's mistake is one line and exit code 2, never a traceback."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.core.config import Config
from raydistill.core.errors import LineageError
from raydistill.core.manifest import SCHEMA_VERSION
from raydistill.core.prices import PACKAGED
from raydistill.core.store import Store


def said(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", ["status", "report"])
@pytest.mark.parametrize("name", ["", "thesis.txt"])
def test_a_folder_that_is_no_run(command, name, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    result = said(command, str(tmp_path / name))
    assert result.exit_code == 2
    assert "is it a run folder?" in result.output


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("run/release", "run released nothing; its verdict: fail"),
        ("release/data", "release/data is a part of a release: verify the whole of it, {0}/release"),
        ("release/data/x", "neither a run nor a release, its student or a signed certificate is in {0}/release/data/x"),
        ("nowhere", "{0}/nowhere: no such folder"),
    ],
)
def test_what_can_t_be_verified_says_why(tmp_path, place, message):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(f"schema: {SCHEMA_VERSION}\n")
    (tmp_path / "run/summary.json").write_text('{"verdict": "fail"}')
    (tmp_path / "release/data/x").mkdir(parents=True)
    (tmp_path / "release/SHA256SUMS").write_text("")
    result = said("verify", str(tmp_path / place))
    assert result.exit_code == 2
    assert message.format(tmp_path) in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("command", [["inspect", "x.csv"], ["verify", "x"], ["init", "x.yaml"]])
def test_what_doesn_t_resume_doesn_t_say_that_it_would(monkeypatch, tmp_path, command):
    def refused(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/x")

    monkeypatch.chdir(tmp_path)
    for needed in ("inspecting.inspect", "commands.handing._what_lies_in", "commands.configuring.template"):
        monkeypatch.setattr(f"raydistill.{needed}", refused)
    result = said(*command)
    assert (result.exit_code, result.output) == (2, "error: [Errno 13] Permission denied: '/data/x'\n")


def test_a_search_needs_a_run(tmp_path):
    result = said("tune", "--run-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "is it a run folder?" in result.output


@pytest.mark.parametrize("feasible", [True, False])
def test_a_search_that_found_nothing_inside_its_bounds_says_which(tmp_path, monkeypatch, feasible):
    facts = {"chosen": {"target_fpir": 0.02}, "chosen_is_feasible": feasible, "broken": {"risk": 5, "kept_share": 2}}
    manifest = SimpleNamespace(skipped="", facts=facts, counts={"trials": 6})
    monkeypatch.setattr("raydistill.running.run_alone", lambda *arguments, **options: manifest)
    (tmp_path / "config.yaml").write_text("schema: 1\n")
    result = said("tune", "--run-dir", str(tmp_path))
    assert result.exit_code == 0, result.output
    bounds = (
        "5 of 6 settings come to too many taken for a train patient by the judge (tune.max_reidentification_rate), "
        "2 to too few samples kept (tune.min_kept_share); this one is the nearest"
    )
    assert (bounds in result.output) is not feasible


def test_a_damaged_configuration_in_a_run_folder(tmp_path):
    (tmp_path / "config.yaml").write_text("schema: 1\ntune: {num_trails: 3}\n")
    result = said("verify", str(tmp_path))
    assert result.exit_code == 2
    assert "tune.num_trails: unknown key; did you mean num_trials?" in result.output
    assert result.output.count("\n") == 1


def test_a_run_is_verified_for_people_and_for_machines(tmp_path, monkeypatch):
    counts = [("ingest", 3), ("decision", 2)]
    runner = SimpleNamespace(run=Store.open(str(tmp_path)), verify=lambda: iter(counts))
    monkeypatch.setattr("raydistill.commands.handing.opened", lambda place: runner)
    (tmp_path / "config.yaml").write_text("schema: 1\n")
    lines = ["ok  ingest: 3 files", "ok  decision: 2 files", "5 files are what their manifests say"]
    assert said("verify", str(tmp_path)).output.splitlines() == lines
    found = json.loads(said("verify", str(tmp_path), "--json").stdout)
    assert (found["what"], found["holds"], found["nodes"], found["release"]) == ("run", True, dict(counts), None)

    def broken():
        yield counts[0]
        raise LineageError("decision: verdict.json is missing")

    runner.verify = broken
    result = said("verify", str(tmp_path), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problem"] == "decision: verdict.json is missing"
    assert said("verify", str(tmp_path)).output.splitlines()[-1] == "error: decision: verdict.json is missing"


def test_mistakes_before_anything_starts(tmp_path):
    for arguments, message in [
        (["--config", str(tmp_path / "none.yaml")], "no configuration file at"),
        (["--set", "source.kind=parquet", "--set", f"source.path={tmp_path}/none.parquet"], "none.parquet"),
        (["--set", "seeed=1"], "did you mean seed?"),
    ]:
        result = said("run", *arguments, "--run-dir", str(tmp_path / "run"))
        assert result.exit_code == 2, result.output
        assert message in result.output.replace("\n", "")
        assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_an_audit_has_no_filter_to_search(tmp_path):
    own = Config(audited={"images": "s3://bucket/images"}).model_dump(mode="json")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"schema": SCHEMA_VERSION, **own}))
    result = said("tune", "--run-dir", str(tmp_path))
    assert result.exit_code == 2, result.output
    assert "it has no filter to search the settings of" in result.output.replace("\n", " ")


def refused(*arguments):
    result = said(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("is_audit", [True, False])
def test_an_audit_takes_nothing_away_from_a_run_nor_a_run_from_an_audit(tmp_path, is_audit):
    there = Config(audited=None if is_audit else {"images": "s3://bucket/images"}).model_dump(mode="json")
    content = yaml.safe_dump({"schema": SCHEMA_VERSION, **there})
    (tmp_path / "config.yaml").write_text(content)
    (tmp_path / "certificate.json").write_text("{}")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    audit = ("audit", "--images", str(tmp_path / "images"), "--set", "source.kind=phantom")
    told = refused(*(audit if is_audit else ("run",)), "--run-dir", str(tmp_path))
    assert f"holds {'a run' if is_audit else 'an audit'}, and" in told
    assert (tmp_path / "config.yaml").read_text() == content
    assert (tmp_path / "certificate.json").exists()


def test_an_audit_without_a_cohort_is_refused(tmp_path):
    assert "against which cohort" in refused("audit", "--images", str(tmp_path), "--run-dir", str(tmp_path / "run"))


def test_what_a_job_would_lose_with_its_folder_is_refused(tmp_path):
    folder = tmp_path / "runtime_resources" / "working_dir_files" / "run"
    assert "would go with it: pass --run-dir" in refused("run", "--run-dir", str(folder))
    assert not folder.exists()


def test_a_dashboard_s_address_needs_no_scheme_and_may_hold_no_password(monkeypatch):
    asked = []
    monkeypatch.setattr("raydistill.submitting.submit", lambda address, *_: asked.append(address) or ("job", 0))
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    assert said("submit", "--address", "127.0.0.1:8299", "tune").exit_code == 0
    assert asked == ["http://127.0.0.1:8299"]
    told = refused("submit", "--address", "http://me:Tr0ub4dor@127.0.0.1:8299", "tune")
    assert "holds a password" in told
    assert "Tr0ub4dor" not in told


def test_an_address_that_nobody_answers_is_one_line(monkeypatch, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{probe.getsockname()[1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setattr("raydistill.core.store.ATTEMPTS", 1)
    source = ("--set", "source.path=s3://bucket/cohort.parquet", "--run-dir", str(tmp_path / "run"))
    for arguments in (("run", *source), ("status", "s3://bucket/run")):
        result = said(*arguments)
        assert result.exit_code == 2, result.output
        assert "s3://bucket/" in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("shell", "begun", "completed"),
    [
        ("bash", "raydistill pl", "plan"),
        ("bash", "raydistill status --js", "--json"),
        ("fish", "raydistill run --set tune.num_tr", "tune.num_trials="),
        ("bash", "raydistill init --preset lap", "laptop"),
        ("zsh", "raydistill submit au", """_arguments '*: :(("audit"))'"""),
    ],
)
def test_commands_options_and_settings_are_completed(shell, begun, completed):
    of_bash = {"COMP_WORDS": begun, "COMP_CWORD": str(len(begun.split()) - 1)}
    asked = {"_TYPER_COMPLETE_ARGS": begun, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    environment = of_bash | asked | {"_RAYDISTILL_COMPLETE": f"complete_{shell}"}
    result = CliRunner().invoke(app, [], prog_name="raydistill", env=environment)
    assert result.stdout.strip() == completed


def test_a_shell_takes_the_script_that_is_shown():
    words = "COMP_WORDS=(raydistill run --set tune.num_tr); COMP_CWORD=3; _raydistill_completion raydistill"
    line = f'eval "$(raydistill --show-completion)"; {words}; echo "${{COMPREPLY[@]}}"'
    beside = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", line], env=beside, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tune.num_trials="]


def test_a_full_disk_is_one_line(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/run/x")

    monkeypatch.setattr("raydistill.running.run", full)
    result = said("run")
    assert result.exit_code == 1
    assert result.output == (
        "error: [Errno 28] No space left on device: '/data/run/x'; the same command continues once that is mended\n"
    )


def planned(tmp_path, *arguments):
    small = ["block_out_channels=[32, 64]", "text_hidden_size=32"]
    sets = [x for model in ("teacher", "student") for line in small for x in ("--set", f"{model}.{line}")]
    result = said("plan", "--run-dir", str(tmp_path / "run"), *sets, *arguments)
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "run").exists()
    return result.output


def test_a_plan_prices_what_is_still_to_run_by_a_table_of_ones_own(tmp_path):
    file = tmp_path / "prices.yaml"
    prices = (PACKAGED.read_text()).replace("cpu: {on_demand: 0.05", "cpu: {on_demand: 5000").replace("USD", "CHF")
    file.write_text(prices)
    costs = [json.loads(planned(tmp_path, "--json", *more))["cost"] for more in ((), ("--prices", str(file)))]
    per_hour = [one["nodes"]["teacher"]["on_demand"] / one["nodes"]["teacher"]["hours"] for one in costs]
    assert per_hour == pytest.approx([2 * 0.05, 2 * 5000])
    assert [one["prices"]["currency"] for one in costs] == ["USD", "CHF"]
    assert costs[0]["rates_from"] is None
    assert {"teacher_matches", "selftest"} <= set(costs[0]["total"]["unknown"])
    text = planned(tmp_path, "--prices", str(file))
    assert f"prices: CHF of 2026-11-27, {file} (" in text
    assert "not offers" in planned(tmp_path)


def test_a_bad_table_of_prices_or_a_run_without_rates_is_one_line(tmp_path):
    file = tmp_path / "prices.yaml"
    file.write_text("currency: USD\ndate: 2026-01-01\ncpu: {on_demand: cheap}\n")
    for option, value in (("--prices", file), ("--prices", tmp_path / "none"), ("--rates-from", tmp_path)):
        result = said("plan", "--run-dir", str(tmp_path / "run"), option, str(value))
        assert result.exit_code == 2, result.output
        assert str(value) in result.output
        assert result.output.count("\n") == 1


def test_a_plan_for_a_cluster_is_made_where_there_is_none_and_says_so(tmp_path):
    preset = ("--set", "preset=spot_sampling")
    out = planned(tmp_path, *preset)
    assert "8 x 1 GPU" in out
    assert "would refuse this here: reid_filter asks for" in out
    result = said("run", "--run-dir", str(tmp_path / "run"), *preset)
    assert result.exit_code == 2
    assert "reid_filter asks for" in result.output


def test_a_configuration_to_begin_with_can_be_planned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = said("init", "mine/first.yaml", "--preset", "laptop")
    assert first.exit_code == 0, first.output
    assert "raydistill inspect --config mine/first.yaml, and raydistill plan --config mine/first.yaml" in first.output
    beside = json.loads((tmp_path / "mine" / "raydistill.schema.json").read_text())
    assert beside == json.loads(said("schema").output)
    resolved = json.loads(said("config", "--config", "mine/first.yaml", "--json").output)
    assert (resolved["name"], resolved["preset"]) == ("first", "laptop")
    again = said("init", "mine/first.yaml")
    assert (again.exit_code, "is there already" in again.output) == (2, True)
    named = said("init", "s3.yaml", "--source", "s3://bucket/cxr", "--set", "source.kind=dicom")
    assert named.exit_code == 0, named.output
    assert json.loads(said("config", "--config", "s3.yaml", "--json").output)["source"]["kind"] == "dicom"
    unknown = said("init", "other.yaml", "--preset", "mainframe")
    assert (unknown.exit_code, "there are laptop, one_gpu" in unknown.output) == (2, True)
    assert not (tmp_path / "other.yaml").exists()
