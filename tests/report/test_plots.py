"""The drawings: what they show, and what they say where there is nothing to show."""

import math

import numpy as np
import pytest

from raydistill.report.evidence import Evidence
from raydistill.report.figures import Point, Series
from raydistill.report.plots import _levelled, bars, dots, path, ridges
from raydistill.report.sections import known_by_heart, memorisation, regime, risk
from raydistill.report.words import STRANGERS
from tests.report.builder import build

NAN = float("nan")


def test_a_point_without_a_value_keeps_its_reason_and_no_place():
    series = [Series("student", [Point("a", 0.5, 0.4, 0.7, 9), Point("b", None, n=1, note="insufficient: one")])]
    figure = dots("n", "t", "c", series, unit="AUROC")
    assert list(figure.plot.data[0].x) == [0.5]
    assert list(figure.plot.layout.yaxis.ticktext) == ["a"]
    assert figure.header[-1] == "why no value"
    assert list(figure.rows) == [
        ("student", "a", 0.5, 0.4, 0.7, 9, None),
        ("student", "b", None, None, None, 1, "insufficient: one"),
    ]


def test_intervals_are_drawn_from_low_to_high():
    series = [Series("teacher", [Point("x", 0.5, 0.4, 0.7)]), Series(STRANGERS, [Point("x", 0.1)])]
    teacher, strangers = dots("n", "t", "c", series, unit="share").plot.data
    assert math.isclose(teacher.error_x.array[0], 0.2)
    assert math.isclose(teacher.error_x.arrayminus[0], 0.1)
    assert (strangers.error_x.array[0], strangers.error_x.arrayminus[0]) == (0, 0)
    assert teacher.y[0] < strangers.y[0]


def test_a_series_that_stands_alone_is_named_too():
    series = [Series("teacher", [Point("x", 0.5)])]
    drawings = dots("n", "t", "c", series, unit="share"), path("n", "t", "c", series, {"teacher": 9.0}, None)
    assert all(drawn.plot.layout.showlegend and drawn.plot.data[0].name == "teacher" for drawn in drawings)
    assert bars("n", "t", "c", {"ingest": 1.0}).plot.data[0].showlegend is False


def test_a_distribution_is_drawn_whole_and_counted_from_the_threshold():
    values = np.array([0.1, 0.5, 0.9, 1.0000002], np.float32)
    figure = ridges("n", "t", "c", {"probe": values}, {"threshold": 0.9})
    assert math.isclose(sum(figure.plot.data[0].customdata), 1.0, abs_tol=1e-3)
    assert figure.rows[0][-1] == 0.5
    assert "threshold 0.9" in [note.text for note in figure.plot.layout.annotations]


def test_models_that_saw_their_images_equally_often_do_not_hide_one_another():
    series = [Series("teacher", [Point("t", 0.2, 0.1, 0.3)]), Series("student", [Point("s", 0.2, 0.1, 0.3)])]
    teacher, student = path("n", "t", "c", series, {"teacher": 50.0, "student": 50.0}, 0.02).plot.data
    assert teacher.x[0] != student.x[0]
    apart = path("n", "t", "c", series, {"teacher": 50.0, "student": 20.0}, None).plot.data
    assert [one.x[0] for one in apart] == [50.0, 20.0]


def test_a_model_that_saw_next_to_nothing_has_no_place_on_the_path(tmp_path):
    runner, summary = build(tmp_path)
    teacher = runner.manifests["teacher"]
    runner.manifests["teacher"] = teacher.model_copy(update={"facts": {"epochs": 0.0}})
    figure = memorisation(Evidence(runner), summary["metrics"])
    assert [row[0] for row in figure.rows] == ["student"]


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (Point("t", 0.95, 0.9, 1.0), "copies nearly everything"),
        (Point("t", 0.3, 0.2, 0.4), "copies some"),
        (Point("t", 0.1, 0.02, 0.3), "This measure doesn't show copying by the teacher"),
        (Point("t", None), "can't be said"),
        (None, "can't be said"),
    ],
)
def test_the_regime_is_said_from_intervals(teacher, words):
    assert words in regime(teacher, Point("c", 0.05, 0.01, 0.12))


@pytest.mark.parametrize("counts", [[0, 3, 0, 2, 9, 0, 1, 0], [12, 1, 0, 30, 0], [0, 4, 0], [40]])
def test_a_bar_of_few_scores_is_drawn_level_with_its_neighbours(counts):
    level, counts = _levelled(np.array(counts), 11), np.array(counts)
    assert math.isclose(level.sum(), counts.sum())
    assert not level[: np.flatnonzero(counts)[0]].any()
    assert not level[np.flatnonzero(counts)[-1] + 1 :].any()
    runs = [level[level == height].sum() for height in set(level[level > 0])]
    assert min(runs) >= min(11, counts.sum()) - 1e-9
    assert _levelled(counts, 1).tolist() == counts.tolist()


def membership(low, value=0.7, name="membership_auc"):
    return {name: {"value": value, "interval": [low, 0.9]}}


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({}, ""),
        (membership(0.45), ""),
        ({"membership_auc": {"value": None, "interval": None}}, ""),
        (membership(0.55), "membership AUC 0.7, 0.55 to 0.9"),
        (membership(0.55) | membership(0.6, 0.8, "membership_calibrated_auc"), "membership AUC 0.8, 0.6 to 0.9"),
        (membership(0.55) | membership(0.4, 0.6, "membership_calibrated_auc"), "membership AUC 0.7, 0.55 to 0.9"),
    ],
)
def test_an_attack_that_finds_the_teacher_s_images_is_said_beside_no_sign_of_copies(tmp_path, teacher, said):
    assert (said in known_by_heart(teacher)) if said else known_by_heart(teacher) == ""
    runner, summary = build(tmp_path)
    summary["metrics"]["teacher"].pop("membership_auc")
    summary["metrics"]["teacher"] |= teacher
    assert ("an attack on the teacher itself" in memorisation(Evidence(runner), summary["metrics"]).caption) is bool(
        said
    )


def test_what_lies_right_of_the_control_is_not_called_leak(tmp_path):
    runner, summary = build(tmp_path)
    caption = risk(Evidence(runner), summary["metrics"]).caption
    assert "may be leak" in caption
    assert "is leak" not in caption
    assert "whether the intervals part" in caption
