"""Events for log collectors: one JSON object a line, with run, node and stage."""

import json

import pytest

from raydistill.core.manifest import Manifest
from raydistill.events import Events


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
    with events.stage("teacher", 6, 27) as stage:
        stage.progress(1, 10, "steps")
        stage.standings([{"utility": 0.7}])
        stage.finish("done", manifest(notes=["a note"]))
    said, began, running, standings, done, note = told(capsys)
    assert all(event["run"] == "runs/demo" and event["host"] and event["time"] for event in (said, began, done))
    assert (said["event"], said["text"]) == ("said", "Ray at 127.0.0.1:1: 1 nodes")
    assert (began["event"], began["node"], began["number"], began["of"]) == ("began", "teacher", 6, 27)
    assert (running["done"], running["total"], running["unit"]) == (1, 10, "steps")
    assert standings["best"] == {"utility": 0.7}
    assert (done["event"], done["stage"], done["counts"]) == ("done", "TrainDiffusion", {"images": 4})
    assert (note["event"], note["node"], note["text"]) == ("note", "teacher", "a note")


def test_a_stage_that_fails_says_why(capsys):
    with pytest.raises(ValueError, match="no"), Events("r").stage("tune", 1, 2):
        raise ValueError("no\nroom")
    _, failed = told(capsys)
    assert (failed["event"], failed["node"], failed["error"], failed["text"]) == (
        "failed",
        "tune",
        "ValueError",
        "no\nroom",
    )


def test_quiet_is_quiet(capsys):
    Events("r", quiet=True).line("x")
    assert not told(capsys)
