"""What a job's log says of a running stage. No Ray."""

import re
import time
from io import StringIO

import pytest
from rich.console import Console

from raydistill.core.manifest import Manifest
from raydistill.display import Display, Rate


def said(capsys, line_every_s, steps=4, quiet=False):
    with Display(quiet, line_every_s).stage("teacher", 3, 12, "TrainDiffusion") as line:
        for step in range(steps):
            line.progress(100 * step, 1000, "steps")
            time.sleep(0.01)
    return capsys.readouterr().err.splitlines()


def test_a_log_hears_how_far_a_stage_is_and_what_is_left(capsys):
    lines = said(capsys, line_every_s=0.0)
    assert len(lines) == 4
    assert re.fullmatch(r"\[ 3/12\] teacher +running  300/1,000 steps, [\d,.]+/s, ETA \d:\d\d:\d\d", lines[-1])


def test_not_at_every_step_and_never_where_nobody_listens(capsys):
    assert said(capsys, line_every_s=60.0) == []
    assert said(capsys, line_every_s=0.0, quiet=True) == []


def test_without_a_total_there_is_a_count_and_no_eta(capsys):
    with Display(line_every_s=0.0).stage("match", 1, 2, "Match") as line:
        line.progress(1234, 0, "images")
    assert re.fullmatch(r"\[ 1/2\] match +running  1,234 images", capsys.readouterr().err.strip())


def test_what_an_earlier_attempt_did_is_no_part_of_the_pace():
    with Display(quiet=True).stage("teacher", 3, 12, "TrainDiffusion") as line:
        line.progress(500_000, 1_000_000, "steps")
        time.sleep(0.05)
        line.progress(500_010, 1_000_000, "steps")
        (task,) = line.live.tasks
        assert 0 < float(Rate().render(task).plain.removesuffix("/s")) <= 200


BEST = [{"target_fpir": 0.0123, "utility": 0.75}, {"target_fpir": 0.5, "utility": 0.5}]


def searched(display, shown):
    with display.stage("tune", 8, 12, "Tune") as line:
        for rows in shown:
            line.standings(rows)
        line.finish("done", Manifest.model_construct(skipped="", counts={"trials": 16}, facts={}, seconds=3.0))


def test_a_terminal_sees_the_best_trials_while_the_search_goes_on():
    display = Display()
    display.console = Console(file=StringIO(), force_terminal=True, width=80)
    with display.stage("tune", 8, 12, "Tune") as line:
        line.standings(BEST)
        line.live.refresh()
        seen = display.console.file.getvalue()
    assert "target" in seen
    assert "0.0123" in seen


MANY = [
    {"utility": 0.5123, "kept_share": 0.98712, "risk_high": -0.0123, "near_copies_high": 0.0672, "target_fpir": 0.01234}
    | {"near_copy_fpir": 0.04567, "patient_quota": 12, "balance": 0.123, "prompt_patients": 30, "guidance_scale": 2.0}
    | {"num_inference_steps": 20}
]


@pytest.mark.parametrize(("width", "left_out"), [(80, "steps"), (120, None), (40, "quota")])
def test_what_a_terminal_has_no_room_for_is_left_out_and_nothing_is_cut(width, left_out):
    display = Display()
    display.console = Console(file=StringIO(), width=width)
    searched(display, [MANY])
    *head, values = display.console.file.getvalue().splitlines()[1:]
    words = " ".join(head).split()
    assert ("…" in words) is (left_out is not None)
    assert left_out not in words
    assert {"utility", "kept", "risk"} <= set(words)
    assert values.split() == [f"{value:.4g}" for value in MANY[0].values()][: len(values.split())]
    assert max(map(len, [*head, values])) <= width


def test_a_log_hears_of_the_best_trials_once_and_last(capsys):
    searched(Display(), [BEST[1:], BEST])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split() for line in lines[1:]] == [["target"], ["fpir", "utility"], ["0.0123", "0.75"], ["0.5", "0.5"]]
    assert "16" in lines[0]


def test_a_search_that_found_nothing_shows_nothing(capsys):
    searched(Display(), [[]])
    assert len(capsys.readouterr().err.splitlines()) == 1
