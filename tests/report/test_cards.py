"""The cards: metadata that machines read, and what a user must know first."""

import json

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from raydistill.core.config import Config
from raydistill.report.cards import data_card, model_card
from raydistill.report.html import show
from raydistill.report.verdict import BANNERS
from raydistill.report.words import LIMITS, title
from tests.report.builder import SECRET, build

CARDS = {"model": (model_card, ModelCard), "data": (data_card, DatasetCard)}
KEY = "0123456789abcdef"


def card(kind, runner, summary, **changes):
    certificate = json.loads(runner.artifact("decision", KEY).read_bytes("certificate.json"))
    certificate["student"] |= changes
    return CARDS[kind][0](runner, summary, certificate)


@pytest.fixture
def run(tmp_path):
    return build(tmp_path, Config(name="phantom", release={"licence": "cc-by-nc-4.0"}))


@pytest.mark.parametrize("kind", CARDS)
def test_front_matter_is_yaml_that_the_hub_reads(run, kind):
    text = card(kind, *run)
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-nc-4.0"
    assert {"privacy-distillation", "synthetic"} <= set(front["tags"])
    read = CARDS[kind][1](text).data
    assert (read.license, read.language) == ("cc-by-nc-4.0", "en")


def test_the_model_card_holds_every_measured_metric_with_its_interval(run):
    results = {result.metric_type: result for result in ModelCard(card("model", *run)).data.eval_results}
    student = run[1]["metrics"]["student"]
    measured = {name: found for name, found in student.items() if found["value"] is not None}
    assert set(results) == set(measured)
    assert "membership_auc" in set(student) - set(measured)
    for name, found in measured.items():
        assert results[name].metric_value == found["value"]
        assert results[name].metric_name == title(name).name
        assert results[name].metric_args.get("interval") == found["interval"]
        assert results[name].metric_args["n"] == found["n"]
    assert results["excess_risk"].metric_args["interval"][0] < 0


def test_the_data_card_says_where_the_files_are(run):
    front = yaml.safe_load(card("data", *run).split("---\n")[1])
    assert front["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}
    ]


@pytest.mark.parametrize("kind", CARDS)
@pytest.mark.parametrize("verdict", ["pass", "fail", "insufficient_evidence"])
def test_text_says_verdict_and_reasons_and_on_top_whether_it_is_against_it(tmp_path, kind, verdict):
    runner, summary = build(tmp_path, verdict=verdict)
    body = card(kind, runner, summary).split("\n---\n", 1)[1]
    evidence = body.split("## Evidence")[1]
    assert f"Verdict: **{BANNERS[verdict].word}**" in evidence
    assert all(f"- {reason}" in evidence for reason in summary["reasons"])
    first = body.split("\n## ")[0]
    warning = f'> **Released against the verdict "{BANNERS[verdict].word}".**'
    assert (warning in first) is (verdict != "pass")
    assert ("WARNING" in body) is (verdict != "pass")
    if verdict != "pass":
        assert body.strip().splitlines()[2:4][1].startswith(warning)
        assert all(f"> - {reason}" in first for reason in summary["reasons"])


@pytest.mark.parametrize("kind", CARDS)
def test_a_number_comes_with_interval_n_and_control_or_the_reason_why_there_is_none(run, kind):
    lines = card(kind, *run).splitlines()
    risk = run[1]["metrics"]["student"]["reidentification_rate"]
    low, high = (show(edge, risk["unit"]) for edge in risk["interval"])
    cells = [show(risk["value"], risk["unit"]), f"{low} to {high}", str(risk["n"]), show(risk["control"], risk["unit"])]
    assert f"| Re-identification rate | {' | '.join(cells)} | {risk['unit']} |" in lines
    assert "| Membership AUC | insufficient: 28 patients; 30 are needed | – | 28 | — | area |" in lines
    assert any(line.startswith("| Sensitivity to the teacher's own copies | ") for line in lines)
    assert not any(line.startswith("| Sensitivity: blur") for line in lines)
    assert all(f"- {limit}" in lines for limit in LIMITS)


@pytest.mark.parametrize("kind", CARDS)
def test_what_the_student_was_trained_on_is_said(run, kind):
    text = " ".join(card(kind, *run).split())
    assert "trained on 60 synthetic images" in text
    assert "48 samples of a teacher" in text
    assert "read no real image" in text
    touched = card(kind, *run, touched_real_data=["its training read ingest"])
    assert "**The student has touched real data in other ways: its training read ingest.**" in touched
    assert "read no real image" not in touched


def test_a_note_cannot_break_its_table(run):
    runner, summary = run
    summary["metrics"]["student"]["membership_auc"] |= {"note": "insufficient: a|b\n<script>"}
    lines = card("model", runner, summary).splitlines()
    row = next(line for line in lines if line.startswith("| Membership AUC |"))
    assert r"insufficient: a\|b &lt;script>" in row
    assert row.replace(r"\|", "").count("|") == 7


@pytest.mark.parametrize("kind", CARDS)
def test_no_patient_is_named(run, kind):
    assert SECRET not in card(kind, *run)


@pytest.mark.parametrize("kind", CARDS)
def test_a_card_says_whose_prompts_were_asked_for(tmp_path, run, kind):
    assert "table of its own" not in card(kind, *run)
    asked = {"teacher_samples": {"requests": {"table": "secret/place.csv"}}}
    text = card(kind, *build(tmp_path / "own", Config(name="phantom", **asked)))
    assert "What was asked of the teacher stands in a table of its own" in text
    assert "asked of the student" not in text
    assert "place.csv" not in text
