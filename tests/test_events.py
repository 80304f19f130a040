"""Events for log collectors: one JSON object a line, with run, node and stage."""

import json
import logging
import warnings

import pytest
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.core.errors import RaydistillError
from raydistill.core.manifest import Manifest
from raydistill.core.store import Store
from raydistill.events import Events
from raydistill.running import RunResult


def manifest(**facts):
    return Manifest(
        node="teacher", stage="TrainDiffusion", version=1, key="k", digest="d", config={}, inputs={}, software={},
        started="", seconds=3.0, files=[], counts={"images": 4}, facts=facts,
    )  # fmt: skip


def told(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_stage_begins_runs_and_ends_in_events(capsys):
    events = Events("runs/demo", line_every_s=0.0)
    events.line("Ray at 127.0.0.1:1: 1 nodes")
    events.line("teacher asks for 2 workers: it waits", "teacher", "TrainDiffusion")
    with events.stage("teacher", 6, 27, "TrainDiffusion") as stage:
        stage.progress(1, 10, "steps")
        stage.standings([{"utility": 0.7}])
        stage.finish("done", manifest(notes=["a note"]))
    every = said, waits, began, running, standings, done, note = told(capsys)
    assert all(event["run"] == "runs/demo" and event["host"] and event["time"] for event in every)
    assert (said["node"], said["stage"]) == (None, None)
    assert all((event["node"], event["stage"]) == ("teacher", "TrainDiffusion") for event in every[1:])
    assert (waits["event"], waits["text"]) == ("said", "teacher asks for 2 workers: it waits")
    assert (said["event"], said["text"]) == ("said", "Ray at 127.0.0.1:1: 1 nodes")
    assert (began["event"], began["number"], began["of"]) == ("began", 6, 27)
    assert (running["done"], running["total"], running["unit"]) == (1, 10, "steps")
    assert standings["best"] == {"utility": 0.7}
    assert (done["event"], done["counts"]) == ("done", {"images": 4})
    assert (note["event"], note["text"]) == ("note", "a note")


def test_a_stage_that_fails_says_why(capsys):
    with pytest.raises(ValueError, match="no"), Events("r").stage("tune", 1, 2, "Tune"):
        raise ValueError("no\nroom")
    _, failed = told(capsys)
    assert (failed["event"], failed["node"], failed["stage"]) == ("failed", "tune", "Tune")
    assert (failed["error"], failed["text"]) == ("ValueError", "no\nroom")


def test_what_a_search_could_not_measure_is_null(capsys):
    with Events("r").stage("tune", 1, 2, "Tune") as stage:
        stage.standings([{"utility": float("nan"), "kept_share": 0.5}])
    *_, said = capsys.readouterr().err.splitlines()
    assert json.loads(said, parse_constant=pytest.fail)["best"] == {"utility": None, "kept_share": 0.5}


def test_quiet_is_quiet(capsys):
    Events("r", quiet=True).line("x")
    assert not told(capsys)


@pytest.mark.parametrize(
    ("raised", "code", "event"),
    [
        (None, 0, "verdict"),
        (RaydistillError("no\nroom"), 1, "error"),
        (OSError("full"), 1, "error"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_line_of_a_run_is_an_event_however_it_ends(monkeypatch, raised, code, event):
    def run(config, run_dir, display):
        display.line("Ray at 127.0.0.1:1: 1 nodes")
        logging.getLogger("raydistill").warning("no cluster at %s", "127.0.0.1:2")
        warnings.warn("slow", stacklevel=1)
        if raised:
            raise raised
        return RunResult("fail", ["too near"], "file:///runs/demo", {"nodes": {"student": {}}})

    monkeypatch.setattr("raydistill.running.run", run)
    # As in a process of its own, where nobody listens to the root yet.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    result = CliRunner().invoke(app, ["run", "--run-dir", "runs/demo", "--log-format", "json"])
    logging.captureWarnings(False)
    assert result.exit_code == code
    events = [json.loads(line) for line in result.output.splitlines()]
    assert [one["event"] for one in events] == ["said", "logged", "logged", event]
    assert all({"time", "run", "host", "node", "stage"} <= one.keys() and one["run"] == "runs/demo" for one in events)
    assert (events[1]["level"], events[1]["text"]) == ("warning", "no cluster at 127.0.0.1:2")
    assert "slow" in events[2]["text"]
    if not raised:
        assert (events[-1]["verdict"], events[-1]["reasons"]) == ("fail", ["too near"])
        assert events[-1]["release"] is None


@pytest.mark.parametrize(
    ("verdict", "filled", "said"),
    [
        ("pass", True, "/release"),
        ("fail", True, "/release, against the verdict"),
        ("fail", False, "none, as the verdict is fail"),
    ],
)
def test_what_may_be_handed_on_is_said_at_the_end(monkeypatch, tmp_path, verdict, filled, said):
    run = Store.open(str(tmp_path))
    if filled:
        run.write_bytes("release/SHA256SUMS", b"")
    result = RunResult(verdict, [], run.uri, {"nodes": {"student": {}}})
    monkeypatch.setattr("raydistill.running.run", lambda *_: result)
    assert CliRunner().invoke(app, ["run"]).output.endswith(f"{said}\n")
