"""The first screen: what decides stands there, and a pass says what may still be there."""

import pytest

from raydistill.core.config import Budgets, Config
from raydistill.metrics.result import Check, MetricResult
from raydistill.report.bundle import publish
from raydistill.report.html import render
from raydistill.report.numbers import absence, show
from raydistill.report.outside import WITHHELD
from raydistill.report.tiles import tiles
from raydistill.report.verdict import BANNERS, OUTCOMES, banner
from tests.report.builder import CHECKS, build
from tests.report.page import Page

pytestmark = pytest.mark.usefixtures("without_plotly")


def leak(value=0.012, low=-0.031, high=0.0443, confidence=0.95):
    about = {"unit": "share of samples that show a patient", "estimator": "by hand", "n": 48}
    found = MetricResult(value=value, interval=(low, high), confidence=confidence, **about)
    return {"leak_rate": found.model_dump(mode="json")}


@pytest.mark.parametrize(("confidence", "level"), [(0.95, "95"), (0.9875, "98.75")])
@pytest.mark.parametrize("public", [False, True])
def test_a_pass_says_up_to_how_many_images_may_show_a_patient(tmp_path, public, confidence, level):
    runner, summary = build(tmp_path)
    summary["metrics"]["student"] |= leak(confidence=confidence)
    said = f"up to {show(0.0443, 'share')} of the student's images may show a patient"
    first = Page(render(runner, summary, public=public)).text("summary")
    assert said in first
    assert f"upper end of the {level}\N{NO-BREAK SPACE}% interval" in first
    publish(runner, summary)
    for card in ("README.md", "student/README.md"):
        assert said in (runner.run / "release").read_bytes(card).decode()


def test_a_pass_without_a_leak_that_may_be_told_says_so(tmp_path):
    _, summary = build(tmp_path)
    assert banner(summary).sentence.endswith("may still show a patient isn't said here.")
    hidden = leak()["leak_rate"] | {"value": None, "interval": None, "note": WITHHELD}
    summary["metrics"]["student"]["leak_rate"] = hidden
    assert banner(summary).sentence.endswith("may still show a patient isn't said here.")


@pytest.mark.parametrize("verdict", ["fail", "insufficient_evidence"])
def test_no_other_verdict_promises_that_much(tmp_path, verdict):
    _, summary = build(tmp_path, verdict=verdict)
    summary["metrics"]["student"] |= leak()
    assert banner(summary) == BANNERS[verdict]


def test_the_leak_s_upper_end_and_membership_come_first(tmp_path):
    runner, summary = build(tmp_path)
    summary["metrics"]["student"] |= leak()
    first, second, *_ = found = tiles(summary["metrics"], Budgets())
    assert first.result["interval"][1] == 0.0443
    assert first.is_upper_end
    assert not any(tile.is_upper_end for tile in found[1:])
    assert second.result is summary["metrics"]["student"]["membership_auc"]
    text = Page(render(runner, summary, public=True)).text("summary")
    nbsp = "\N{NO-BREAK SPACE}"
    assert f"may show a patient, at most 4.43{nbsp}% estimate 1.2{nbsp}%budget ≤ 5{nbsp}%" in text
    assert "0.5 is chance) insufficient budget ≤ 0.6" in text
    calibrated = {"membership_calibrated_auc": summary["metrics"]["student"]["membership_auc"] | {"value": 0.55}}
    summary["metrics"]["student"] |= calibrated
    assert tiles(summary["metrics"], Budgets())[1].result["value"] == 0.55


def test_a_proven_excess_is_listed_by_its_own_name_and_open(tmp_path, monkeypatch):
    check = Check(metric="student.recall", value=0.7, interval=(0.65, 0.8), budget=0.6, kind="unproven")
    monkeypatch.setitem(CHECKS, "fail", check)
    html = render(*build(tmp_path, Config(name="phantom"), verdict="fail"), public=True)
    assert f"<details open><summary>1 of 2 {OUTCOMES['proven']}" in html
    assert "no proof of more than 60\N{NO-BREAK SPACE}%" in html
    assert "break their budget" not in html


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("insufficient: 3: too few", ("insufficient", "3: too few")),
        (WITHHELD, ("not shown", WITHHELD.removeprefix("not shown: "))),
        ("one: two", ("insufficient", "one: two")),
    ],
)
def test_withheld_and_insufficient_are_told_apart(note, said):
    assert absence(note) == said
