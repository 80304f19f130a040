"""`--json`: of every command standard output is one document, its answer or its error, and nothing else."""

import json
import logging
import sys
from types import SimpleNamespace

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.core.errors import LineageError
from raydistill.core.loading import load_config
from raydistill.core.store import Store
from raydistill.core.template import schema
from raydistill.publishing.target import Transfer
from raydistill.result import RunResult

COMMANDS = get_command(app).commands

REFUSED = {
    "run": ["--set", "seeed=1"],
    "audit": [],
    "tune": ["--run-dir", "{here}"],
    "submit": ["distill", "--working-dir", "{here}"],
    "inspect": ["{here}/nothing", "--set", "source.kind=dicom"],
    "plan": ["--set", "seeed=1"],
    "status": ["{here}"],
    "checkpoint": ["{here}", "teacher", "{here}/model"],
    "report": ["{here}"],
    "verify": ["{here}"],
    "publish": ["{here}", "{here}/to"],
    "init": ["{here}"],
    "config": ["--set", "seeed=1"],
}
"""Of every command, what it refuses."""

WITHOUT_A_MISTAKE = {"schema": "takes nothing that could be wrong"}

ANSWERS = {
    "run": {"verdict": "fail", "reasons": ["too near"], "report": "file:///run/report.html", "release": None, "run": "file:///run"},
    "tune": {"chosen": {"target_fpir": 0.02}, "chosen_is_feasible": True, "broken": {}, "run": "{uri}"},
    "submit": {"job": "job-1", "address": "http://there", "exit_code": 3},
    "plan": {"nodes": [], "cost": {"total": 1}, "short_here": None},
    "status": {"verdict": "pass", "reasons": [], "nodes": {}},
    "checkpoint": {"node": "teacher", "steps": 7, "folder": "{here}/model"},
    "report": {"report": "{uri}/report.html"},
    "verify": {
        "what": "run", "uri": "{uri}", "holds": False, "problem": "decision: verdict.json is missing",
    },
    "publish": {"state": "sent", "files": [{"path": "README.md", "to": "there/README.md", "size": 3}]},
    "init": {"file": "{here}/mine.yaml", "schema": "{here}/raydistill.schema.json"},
    "config": load_config(None).model_dump(mode="json"),
    "schema": schema(),
}  # fmt: skip
ANSWERS["audit"] = ANSWERS["run"]
"""Of every command, what it answers where whoever does the work is replaced by `noisy`."""

ASKED = {
    "run": (["--require-pass"], 3),
    "audit": (["--images", "{here}", "--set", "source.kind=phantom", "--require-pass"], 3),
    "submit": (["--address", "http://there", "distill"], 3),
    "verify": (["{here}"], 1),
    "publish": (["{here}", "there"], 0),
    "init": (["{here}/mine.yaml"], 0),
    "config": ([], 0),
    "plan": ([], 0),
}
"""What is asked where it isn't what is refused elsewhere, and the exit code that belongs to the answer."""

ELSEWHERE = {"inspect": "test_inspecting has it on a cohort"}


def noisy(answer):
    """Stand for what does the work: it prints, as libraries do, and returns the answer or raises it."""

    def work(*_, **__):
        print("a library says something")  # noqa: T201
        print("a library warns", file=sys.stderr)  # noqa: T201
        if isinstance(answer, Exception):
            raise answer
        return answer

    return work


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A run folder, and noisy work in the place of everything that needs a cluster or a finished run."""
    facts = {"chosen": {"target_fpir": 0.02}, "chosen_is_feasible": True, "broken": {}}
    stage = SimpleNamespace(node="teacher", write_checkpoint=noisy(7))
    runner = SimpleNamespace(
        run=Store.open(str(tmp_path)), stages=[stage], manifests={}, context=lambda stage: None,
        plan=noisy([SimpleNamespace(node="teacher", state="to run")]),
        verify=noisy(LineageError("decision: verdict.json is missing")),
    )  # fmt: skip
    place = SimpleNamespace(
        check=noisy(False), transfers=noisy([Transfer("README.md", "there/README.md", 3)]), send=noisy(None)
    )
    replaced = {
        "running.run": noisy(RunResult("fail", ["too near"], "file:///run", {})),
        "running.run_alone": noisy(SimpleNamespace(skipped="", facts=facts, counts={"trials": 6})),
        "running.check_configured": noisy(None),
        "running.short_here": noisy(None),
        "submitting.submit": noisy(("job-1", 3)),
        "commands.looking.opened": noisy(runner),
        "commands.looking.new_runner": noisy(SimpleNamespace(**{**vars(runner), "plan": noisy([])})),
        "commands.looking.read_summary": noisy(ANSWERS["status"]),
        "commands.handing.opened": noisy(runner),
        "costs.plan.estimate": noisy(None),
        "costs.words.fields": noisy({"total": 1}),
        "report.html.write_report": noisy(None),
        "publishing.released.checked": noisy(None),
        "publishing.released.open_target": noisy(place),
    }
    for name, work in replaced.items():
        monkeypatch.setattr(f"raydistill.{name}", work)
    (tmp_path / "config.yaml").write_text("schema: 1\n")
    return tmp_path


def filled(value, place):
    words = {"{here}": str(place), "{uri}": Store.open(str(place)).uri}
    text = json.dumps(value)
    for word, said in words.items():
        text = text.replace(word, said)
    return json.loads(text)


def test_every_command_has_it():
    assert all(any("--json" in option.opts for option in command.params) for command in COMMANDS.values())
    assert REFUSED.keys() | WITHOUT_A_MISTAKE.keys() == ANSWERS.keys() | ELSEWHERE.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", REFUSED)
def test_a_mistake_is_a_document_too(command, tmp_path):
    line = [command, *filled(REFUSED[command], tmp_path)]
    for_people, for_machines = CliRunner().invoke(app, line), CliRunner().invoke(app, [*line, "--json"])
    said = for_people.stderr.splitlines()[-1].removeprefix("error: ")
    assert (for_people.stdout, for_people.exit_code, for_machines.exit_code) == ("", 2, 2)
    assert json.loads(for_machines.stdout) == {"error": said, "exit_code": 2}
    assert for_machines.stderr.splitlines()[-1] == f"error: {said}"


@pytest.mark.parametrize("command", ANSWERS)
def test_an_answer_is_one_document_whatever_is_printed_on_the_way(command, here):
    default = ([] if command in WITHOUT_A_MISTAKE else REFUSED[command], 0)
    arguments, code = ASKED.get(command, default)
    result = CliRunner().invoke(app, [command, *filled(arguments, here), "--json"])
    assert (result.exit_code, result.exception is None or isinstance(result.exception, SystemExit)) == (code, True)
    assert json.loads(result.stdout) == filled(ANSWERS[command], here)


def test_a_line_that_is_not_understood_is_for_people():
    result = CliRunner().invoke(app, ["status", "--no-such-option", "--json"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--no-such-option" in result.stderr


@pytest.mark.parametrize(("line", "own"), [(["distill", "--json"], []), (["distill", "--", "--json"], ["--json"])])
def test_a_submitted_job_has_its_own_after_a_dash(monkeypatch, line, own):
    taken = []
    monkeypatch.setattr("raydistill.submitting.submit", lambda *asked: taken.extend(asked[2]) or ("job-1", 0))
    CliRunner().invoke(app, ["submit", *line])
    assert taken == own


def test_what_is_no_number_is_null(here, monkeypatch):
    summary = {"low": float("nan"), "rows": [float("inf"), 1.5]}
    monkeypatch.setattr("raydistill.commands.looking.read_summary", lambda _: summary)
    said = CliRunner().invoke(app, ["status", str(here), "--json"]).stdout
    assert json.loads(said) == {"low": None, "rows": [None, 1.5]}


def test_an_interruption_says_so(here, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("raydistill.running.run", interrupted)
    result = CliRunner().invoke(app, ["run", "--json"])
    assert result.exit_code == 130
    assert json.loads(result.stdout) == {"interrupted": "the same command continues", "exit_code": 130}


def test_events_stay_where_they_are(here, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    result = CliRunner().invoke(app, ["run", "--json", "--log-format", "json"])
    logging.captureWarnings(False)
    events = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert events[-1]["event"] == "verdict"
    assert json.loads(result.stdout)["verdict"] == events[-1]["verdict"] == "fail"
