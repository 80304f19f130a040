"""The cards: metadata that machines read, and what a user must know first."""

import json
import os

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import datasets
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from raydistill.core.config import Config
from raydistill.core.licence import read_licence
from raydistill.core.manifest import FileEntry
from raydistill.report.cards import data_card, model_card
from raydistill.report.dataset import Packed
from raydistill.report.html import show
from raydistill.report.verdict import BANNERS
from raydistill.report.words import LIMITS, title
from tests.report.builder import SECRET, build

CARDS = {"model": (model_card, ModelCard), "data": (data_card, DatasetCard)}
KEY = "0123456789abcdef"


def card(kind, runner, summary, rows=46, **changes):
    certificate = json.loads(runner.artifact("decision", KEY).read_bytes("certificate.json"))
    certificate["student"] |= changes
    told = runner.config.release
    arguments = [runner, summary, certificate, read_licence(told.licence, told.licence_text)]
    if kind == "data":
        arguments.append(Packed((FileEntry(path="data/x.parquet", size=7, sha256="f"),), rows, 9))
    return CARDS[kind][0](*arguments)


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


def test_the_data_card_says_how_much_there_is(run):
    said = DatasetCard(card("data", *run)).data.to_dict()
    about = said["dataset_info"]
    assert (about["download_size"], about["dataset_size"]) == (7, 9)
    assert about["splits"] == [{"name": "train", "num_bytes": 9, "num_examples": 46}]
    assert datasets.Features._from_yaml_list(about["features"])["image"] == datasets.Image()
    assert datasets.Features._from_yaml_list(about["features"])["labels"] == datasets.List(datasets.Value("string"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (75_649, "10K<n<100K"),
        (10**8, "100M<n<1B"),
        (10**9, "1B<n<10B"),
        (10**12, "n>1T"),
    ],
)
def test_the_data_card_says_of_which_size_it_is(run, rows, words):
    assert DatasetCard(card("data", *run, rows=rows)).data.size_categories == words


@pytest.mark.parametrize("kind", CARDS)
def test_a_licence_outside_the_hub_s_list_is_named_and_linked(tmp_path, kind):
    front = yaml.safe_load(card(kind, *build(tmp_path)).split("---\n")[1])
    assert [front[name] for name in ("license", "license_name", "license_link")] == ["other", "none-granted", "LICENSE"]


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
