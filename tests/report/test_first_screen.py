"""The first screen: what decides stands there, and a pass says what may still be there."""

import pytest

from raydistill.core.config import Budgets, Config
from raydistill.metrics.result import Check, MetricResult
from raydistill.report.bundle import publish
from raydistill.report.html import render
from raydistill.report.judged import OUTCOMES, Judged, Standing
from raydistill.report.numbers import absence, show
from raydistill.report.outside import WITHHELD
from raydistill.report.tiles import tiles
from raydistill.report.verdict import BANNERS, banner
from raydistill.report.words import ADJUSTED, FILTER, OTHER, PRIVACY, STRANGERS, UTILITY
from tests.report.builder import CHECKS, build
from tests.report.page import Page

pytestmark = pytest.mark.usefixtures("without_plotly")
NOTHING_HELD = Standing({}, [], [])


def leak(value=0.012, low=-0.031, high=0.0443, confidence=0.95, name="leak_rate"):
    about = {"unit": "share of samples that show a patient", "estimator": "by hand", "n": 48}
    found = MetricResult(value=value, interval=(low, high), confidence=confidence, **about)
    return {name: found.model_dump(mode="json")}


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


@pytest.mark.parametrize(("harder", "most", "way"), [(0.0471, 0.0471, "asked harder"), (0.02, 0.0443, "as asked for")])
def test_of_both_ways_of_asking_the_one_that_may_leak_more_is_told(tmp_path, harder, most, way):
    runner, summary = build(tmp_path)
    summary["metrics"]["student"] |= leak() | leak(high=harder, name="attacked_leak_rate")
    text = Page(render(runner, summary, public=True)).text("summary")
    assert f"up to {show(most, 'share')} of the student's images may show a patient" in text
    assert f"of the corrected leak, {way}" in text
    assert "if leaked pictures are as recognisable as new real ones of the same people" in text
    first = tiles(summary["metrics"], Budgets())[0]
    assert (first.result["interval"][1], way in first.label) == (most, True)


LOOSER = {"max_excess_risk": 0.99, "max_leak_rate": 0.5, "max_membership_auc": 0.7, "min_sensitivity": 0.85}


@pytest.mark.parametrize("public", [False, True])
def test_a_pass_by_looser_budgets_says_how_many_and_names_the_loosest_first(tmp_path, public):
    runner, summary = build(tmp_path, Config(name="phantom", release={"budgets": LOOSER}))
    by = (
        "Pass, by 4 budgets looser than raydistill's own: max_excess_risk 0.99 (its own 0.05); max_leak_rate 0.5 "
        "(its own 0.05); max_membership_auc 0.7 (its own 0.6); and 1 more."
    )
    page = render(runner, summary, public=public)
    text = Page(page).text("summary")
    assert text.startswith(f"✓Pass {by} {BANNERS['pass'].sentence}")
    assert "4 to be read with the verdict" in text
    assert "lack what any claim needs" not in text
    assert "release.budgets.min_sensitivity is 0.85, looser than raydistill's own 0.9." in text
    publish(runner, summary)
    for card in ("README.md", "student/README.md", "croissant.json"):
        assert by in (runner.run / "release").read_bytes(card).decode()


@pytest.mark.parametrize("verdict", ["fail", "insufficient_evidence"])
def test_looser_budgets_stand_below_another_verdict_and_decide_nothing(tmp_path, verdict):
    text, plain = (
        Page(render(*build(tmp_path / name, Config(name="phantom", release=release), verdict=verdict), public=True))
        for name, release in (("looser", {"budgets": LOOSER}), ("own", {}))
    )
    text, plain = text.text("summary"), plain.text("summary")
    assert "4 to be read with the verdict" in text
    assert text.split("4 to be read")[0] == plain[: text.index("4 to be read")]
    assert "looser" not in plain


def test_a_pass_of_a_student_that_touched_real_data_says_so_once(tmp_path):
    runner, summary = build(tmp_path)
    touched = "The student has touched real data: its training read ingest; release.allow_private_weights accepts that."
    decision = runner.artifact("decision", runner.manifests["decision"].key)
    decision.write_json("verdict.json", decision.read_json("verdict.json") | {"caveats": [touched]})
    text = Page(render(runner, summary | {"reasons": [*summary["reasons"], touched]}, public=True)).text("summary")
    assert f"{BANNERS['pass'].sentence} {touched} " in text
    assert text.count(touched) == 1


@pytest.mark.parametrize("given", [False, True])
def test_the_cohort_says_where_the_source_gave_the_roles(tmp_path, given):
    runner, summary = build(tmp_path)
    ingest = runner.manifests["ingest"]
    runner.manifests["ingest"] = ingest.model_copy(update={"facts": ingest.facts | {"roles_given": given}})
    text = Page(render(runner, summary, public=True)).text("run")
    assert ("Who is in which role was given by the source." in text) is given


def test_a_pass_without_a_leak_that_may_be_told_says_so(tmp_path):
    _, summary = build(tmp_path)
    assert banner(summary, NOTHING_HELD).sentence.endswith("may still show a patient isn't said here.")
    hidden = leak()["leak_rate"] | {"value": None, "interval": None, "note": WITHHELD}
    summary["metrics"]["student"]["leak_rate"] = hidden
    assert banner(summary, NOTHING_HELD).sentence.endswith("may still show a patient isn't said here.")


@pytest.mark.parametrize("verdict", ["fail", "insufficient_evidence"])
def test_no_other_verdict_promises_that_much(tmp_path, verdict):
    _, summary = build(tmp_path, verdict=verdict)
    summary["metrics"]["student"] |= leak()
    assert banner(summary, NOTHING_HELD) == BANNERS[verdict]


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


def held(name, value, budget, side, **about):
    result = {"value": value, "unit": "share" if side == "at most" else "area"}
    return Judged("", "student", name, "", about.get("section", PRIVACY), result, budget, side)


@pytest.mark.parametrize(
    ("broken", "said", "cleared"),
    [
        ([held("Utility loss", 0.29, 0.1, "at most", section=UTILITY)], "teach too little: Utility loss 29 %,", True),
        ([held("Leak", 0.12, 0.05, "at most")], "risk to patients is too high: Leak 12 %, at most 5 % allowed.", False),
        ([held("Sensitivity", 0.6, 0.9, "at least", section=FILTER)], "self-test: Sensitivity 0.6, at least 0.9 needed.", False),
        ([held("Utility loss", 1, 0, "", section=UTILITY), held("Leak", 1, 0, "at most")], "The risk to patients", False),
        ([held(str(n), 0.5, 0, "at most") for n in range(5)], "at most 0 % allowed; and 2 more.", False),
        ([held("Hits", None, 0, "at most")], "too high: Hits (its number is not shown), at most 0 % allowed.", False),
        ([held("Own", 1, 0, "at most", section=OTHER)], "A budget is broken: Own 100 %, at most 0 % allowed.", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("short", [[], ["Something is too blind."]])
def test_a_fail_says_of_what_kind_it_is_and_speaks_of_privacy_only_where_it_is_about_that(broken, said, cleared, short):
    uncertain = {"insufficient_evidence": [held("Other", 0.1, 0.2, "at most")]} if short else {}
    sentence = banner({"verdict": "fail"}, Standing({"fail": broken} | uncertain, [], short)).sentence
    assert said in sentence.replace("\N{NO-BREAK SPACE}", " ")
    assert ("No privacy budget is proven broken" in sentence) is cleared
    assert (f"2 of {len(broken) + 2} checks lack the evidence to tell" in sentence) is bool(short)


def test_a_sentence_that_decided_beside_all_checks_comes_first_and_no_budget_clears_it():
    touched = "The student has touched real data: its training read ingest."
    broken = [held("Utility loss", 0.3, 0.1, "at most", section=UTILITY)]
    sentence = banner({"verdict": "fail"}, Standing({"fail": broken}, [touched], [])).sentence
    assert sentence.startswith(f"{touched} The student's images teach too little")
    assert "No privacy budget" not in sentence
    assert f"What decided is {WITHHELD}." in banner({"verdict": "fail"}, Standing({}, [WITHHELD], [])).sentence


def test_what_is_held_against_patients_taken_has_another_name_than_strangers_as_they_are(tmp_path):
    runner, summary = build(tmp_path)
    rate, strangers = (summary["metrics"]["student"][name] for name in ("reidentification_rate", "control_rate"))
    label = "Student images taken for a real patient"
    as_it_is = next(tile for tile in tiles(summary["metrics"], Budgets()) if tile.label == label)
    assert (as_it_is.beside, as_it_is.other, as_it_is.remark) == (STRANGERS, strangers["value"], "")
    rate["control"] = strangers["value"] / 2
    text = Page(render(runner, summary, public=True)).text("summary").replace("\N{NO-BREAK SPACE}", " ")
    scaled, whole = (
        show(value, "share").replace("\N{NO-BREAK SPACE}", " ") for value in (rate["control"], strangers["value"])
    )
    assert f"{ADJUSTED} {scaled} ({STRANGERS} of {whole}, scaled" in text


@pytest.mark.parametrize(
    ("low", "high", "mark"),
    [
        (0, 0.01, "✓ keeps its budget"),
        (0.01, 0.09, "? is too uncertain for its budget"),
        (0.06, 0.09, "✕ breaks its budget"),
    ],
)
def test_a_tile_says_in_words_how_its_budget_is_kept(low, high, mark):
    lost = leak(low, low, high)["leak_rate"]
    student = {"leak_rate": lost, "utility_auroc": lost, "utility_loss": lost}
    first, learnt = tiles({"student": student}, Budgets(max_utility_loss=0.05))
    assert (first.mark, learnt.mark) == (mark, mark.replace(" ", " the loss ", 1))
    hidden = lost | {"value": None, "interval": None, "note": WITHHELD}
    assert tiles({"student": {"leak_rate": hidden}}, Budgets())[0].mark == ""


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
