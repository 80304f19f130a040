"""Groups of 1 to 10 images or patients stay inside: in no file of a release is their size, or what tells it."""

import json
import math
import re
from itertools import groupby

import numpy as np
import pytest

from raydistill.core.config import Config
from raydistill.metrics.result import Check, MetricResult, results_table
from raydistill.metrics.shortfalls import BLIND
from raydistill.metrics.utility import macro_auroc
from raydistill.report.bundle import publish
from raydistill.report.evidence import Evidence
from raydistill.report.groups import by_finding, fidelity_by_finding, subgroups, utility_by_subgroup
from raydistill.report.html import render
from raydistill.report.outside import FEW, WITHHELD, certificate_outside, is_hidden, summary_outside
from raydistill.report.sections import scores
from raydistill.report.tables import cohort
from raydistill.report.words import STRANGERS
from tests.report import builder
from tests.report.builder import ROLES, build
from tests.report.page import Page

pytestmark = pytest.mark.usefixtures("without_plotly")
KEY = "0123456789abcdef"
ANYWAY = Config(name="phantom", release={"release_anyway": True})
RESULT = MetricResult(value=0.5, n=40, unit="share", estimator="exact")


def drawings(page):
    return [json.loads(text) for text in page.scripts if text.startswith("{")]


def write(runner, group, name, table):
    runner.artifact(f"{group}_evaluation", KEY).write_table(name, table)


def test_subgroups_of_fewer_than_eleven_stay_inside(tmp_path):
    runner, _ = build(tmp_path)
    ten, eleven = (RESULT.model_copy(update={"n": n}) for n in (10, 11))
    for group in ("teacher", "student"):
        write(runner, group, "tables/subgroups.parquet", results_table({"sex=female": ten, "sex=male": eleven}))
    inside, public = (subgroups(Evidence(runner), public=public).rows for public in (False, True))
    assert [row[1] for row in inside] == ["sex: female", "sex: male"] * 2
    assert [row[1] for row in public] == ["sex: male"] * 2


def test_a_rare_finding_isn_t_named_outside(tmp_path):
    runner, summary = build(tmp_path)
    found = results_table(dict.fromkeys(["situs inversus", "pacemaker", "nodule"], RESULT))
    found = found.append_column("group_size", [[0, 10, 11]])
    for group in ("real", "teacher", "filtered", "student"):
        write(runner, group, "tables/by_finding.parquet", found)
    inside, public = (by_finding(Evidence(runner), public=public) for public in (False, True))
    assert [row[1] for row in inside.rows] == ["situs inversus", "pacemaker", "nodule"] * 4
    assert [row[1] for row in public.rows] == ["nodule"] * 4
    looks = found.set_column(0, "name", [[f"{name}: kernel_distance" for name in found["name"].to_pylist()]])
    for group in ("real", "teacher", "filtered", "student"):
        write(runner, group, "tables/fidelity_by_finding.parquet", looks)
    inside, public = (fidelity_by_finding(Evidence(runner), public=public) for public in (False, True))
    assert [row[1] for row in inside.rows] == ["situs inversus", "pacemaker", "nodule"] * 4
    assert [row[1] for row in public.rows] == ["nodule"] * 4
    rare = found.set_column(0, "name", [["age_band=100 to 119", "sex=male", "view=PA"]])
    for group in ("real", "teacher", "filtered", "student"):
        write(runner, group, "tables/utility_by_group.parquet", rare)
    rows = utility_by_subgroup(Evidence(runner), public=True).rows
    assert [row[1].partition(":")[0] for row in rows] == ["view"] * 4
    html = render(runner, summary, public=True)
    assert "100 to 119" not in html
    assert "situs" not in html
    assert "pacemaker" not in html


def test_the_note_of_a_metric_names_no_rare_finding():
    rng = np.random.default_rng(0)
    labels = np.stack([np.arange(60) < 3, np.arange(60) % 2 == 0], axis=1)
    note = macro_auroc(labels, rng.normal(size=(60, 2)), np.arange(60)).note
    assert not re.search("[:,]", note)


def test_small_roles_are_not_counted_outside(tmp_path):
    runner, _ = sized(*build(tmp_path), probe=10)
    counts = dict(zip(ROLES, ((60, 30), (22, 10), (30, 15), (40, 20)), strict=True))
    assert cohort(Evidence(runner), public=False) == [(role, *both) for role, both in counts.items()]
    public = counts | {"probe": (22, FEW)}
    assert cohort(Evidence(runner), public=True) == [(role, *both) for role, both in public.items()]


def test_what_was_taken_out_of_texts_is_counted_inside_alone(tmp_path):
    runner, summary = build(tmp_path)
    assert "Prompts are made of free text" not in render(runner, summary, public=False)
    scrubbed = {"texts": 149, "changed": 31, "removed": {"age_over_89": 2, "name": 30}}
    facts = runner.manifests["ingest"].facts | {"scrubbed": scrubbed, "prompts": {"k": 7}}
    runner.manifests["ingest"] = runner.manifests["ingest"].model_copy(update={"facts": facts})
    inside, public = (Page(render(runner, summary, public=public)).text("run") for public in (False, True))
    assert "149 texts were read, and out of 31 something was taken: age over 89 2, name 30." in inside
    assert "only if 7 train patients share it" in inside
    assert "free text" not in public


def test_the_nodes_counts_stay_inside(tmp_path):
    runner, summary = build(tmp_path)
    counts = {"rows": 157, "records": 149, "quarantined": 8, "probe": 7}
    runner.manifests["ingest"] = runner.manifests["ingest"].model_copy(update={"counts": counts})
    summary["nodes"]["ingest"]["rows"] = 157
    inside, public = (Page(render(runner, summary, public=public)) for public in (False, True))
    assert any("quarantined: 8, probe: 7" in attributes.get("title", "") for _, attributes in inside.elements)
    assert "157" in inside.text("run")
    titles = [attributes["title"] for tag, attributes in public.elements if "title" in attributes and tag != "img"]
    assert titles == []
    # With the sum of all rows the one role that isn't counted could be.
    assert "157" not in public.text("run")


@pytest.mark.parametrize(("images", "patients", "shown"), [(10, 10, False), (22, 10, False), (22, 11, True)])
def test_the_scores_of_few_images_or_patients_are_not_drawn_outside(tmp_path, monkeypatch, images, patients, shown):
    monkeypatch.setitem(builder.ROLES, "probe", images)
    runner, _ = sized(*build(tmp_path), probe=patients)
    inside, public = (scores(Evidence(runner), "filter", public=public) for public in (False, True))
    assert [row[0] for row in inside.rows if row[1] == images] == ["probe"]
    assert ("probe" in [row[0] for row in public.rows]) is shown
    assert any("probe" in path for path in inside.sources)
    assert any("probe" in path for path in public.sources) is shown


def sized(runner, summary, **patients):
    """Let the run's roles have other numbers of patients."""
    facts = runner.manifests["ingest"].facts
    facts = facts | {"patients": facts["patients"] | patients}
    runner.manifests["ingest"] = runner.manifests["ingest"].model_copy(update={"facts": facts})
    return runner, summary


def test_no_bar_of_a_public_distribution_is_of_few_images(tmp_path):
    page = Page(render(*build(tmp_path), public=True))
    bars = [trace for drawn in drawings(page) for trace in drawn["data"] if trace.get("fill")]
    assert {trace["name"] for trace in bars} > {"probe", "calibration", "evaluation", "student samples"}
    for trace in bars:
        images = ROLES.get(trace["name"], 47)
        levels = [sum(level) * images for height, level in groupby(trace["customdata"]) if height]
        assert min(levels) > 10.9, trace["name"]
        assert math.isclose(sum(levels), images, abs_tol=0.1)


@pytest.mark.parametrize("role", ["train", "calibration", "evaluation"])
def test_what_was_measured_on_a_small_role_is_hidden_with_its_size(tmp_path, role):
    runner, summary = sized(*build(tmp_path), **{role: 10})
    told = summary_outside(runner, summary)
    hidden = [result for group in told["metrics"].values() for name, result in group.items() if "tpir" not in name]
    assert {result["note"] for result in hidden} == {told["reasons"][0]} == {WITHHELD}
    assert {result[name] for result in hidden for name in ("value", "interval", "control", "n")} == {None}
    assert told["metrics"]["filter"]["tpir"] == summary["metrics"]["filter"]["tpir"]


def test_few_probes_hide_what_was_measured_on_them_and_nothing_else(tmp_path):
    runner, summary = sized(*build(tmp_path), probe=10)
    read = {"student": ("auditor_tpir", "leak_rate", "attacked_leak_rate", "membership_probe_auc"), "filter": ("tpir",)}
    for group, names in read.items():
        summary["metrics"][group] |= dict.fromkeys(names, RESULT.model_dump(mode="json"))
    told = summary_outside(runner, summary)["metrics"]
    hidden = {group: [name for name, one in results.items() if is_hidden(one)] for group, results in told.items()}
    assert {group: set(names) for group, names in hidden.items() if names} == {g: {*names} for g, names in read.items()}


def test_a_pass_on_few_probes_has_a_certificate_that_says_why(tmp_path):
    runner, summary = sized(*build(tmp_path), probe=10)
    leak = MetricResult(value=0.0123, interval=(-0.0321, 0.0432), n=40, unit="share", estimator="exact")
    summary["metrics"]["student"]["leak_rate"] = leak.model_dump(mode="json")
    folder = runner.artifact("decision", KEY)
    decision, check = folder.read_json("verdict.json"), Check.of("student.leak_rate", leak, 0.05, "max")
    blind = f"{BLIND}student.auditor_tpir is 0.1234 and is too uncertain for the budget of at least 0.2."
    summary["metrics"]["student"]["auditor_tpir"] = RESULT.model_dump(mode="json")
    reasons = [*summary["reasons"], check.reason, blind]
    folder.write_json("verdict.json", decision | {"checks": [*decision["checks"], check.model_dump(mode="json")]})
    judged = folder.read_json("certificate.json") | {"reasons": reasons}
    told = certificate_outside(runner, judged, summary | {"reasons": reasons})
    *same, hidden, sight = told["reasons"]
    assert same == summary["reasons"]
    assert told["verdict"] == "pass"
    assert hidden == f"student.leak_rate keeps its budget; its number is {WITHHELD}."
    assert sight == f"{BLIND}student.auditor_tpir doesn't certainly keep its budget; its number is {WITHHELD}."
    assert told["cohort"]["probe"] == {"images": 22, "patients": 11}
    assert told["filter"] == judged["filter"]


@pytest.mark.parametrize(
    ("share", "control", "told"), [(0.0, 0.0, True), (0.3, 0.2, True), (0.05, 0.2, False), (0.3, 0.01, False)]
)
def test_few_patients_who_were_hit_are_not_counted_outside(tmp_path, share, control, told):
    runner, summary = build(tmp_path)
    result = RESULT.model_copy(update={"value": share, "control": control, "n": 100, "note": "so many patients"})
    summary["metrics"]["student"]["patients_hit_2"] = result.model_dump(mode="json")
    outside = summary_outside(runner, summary)["metrics"]["student"]["patients_hit_2"]
    assert (outside["value"] is not None, outside["note"] == WITHHELD) == (told, not told)


def test_of_large_roles_everything_is_told_as_it_is(tmp_path):
    runner, summary = build(tmp_path)
    assert summary_outside(runner, summary) == summary


SMALL_ROLES = {"train": 60, "probe": 7, "calibration": 9, "evaluation": 6}
FEW_COUNTED = r"(?<![\d.,])(?:[1-9]|10) (?:\w+ )?(?:calibration|evaluation|real|images|patients|records|clusters)"


def small_release(tmp_path, monkeypatch):
    for role, count in SMALL_ROLES.items():
        monkeypatch.setitem(builder.ROLES, role, count)
    reason = "3 evaluation patients are too few for any claim; 30 are needed."
    monkeypatch.setitem(builder.REASONS, "insufficient_evidence", reason)
    runner, summary = build(tmp_path / "run", ANYWAY, verdict="insufficient_evidence")
    policy = runner.artifact("tune", KEY)
    note = "5 calibration patients can't support an FPIR of 0.05; set at 0.167 instead"
    policy.write_json("policy/policy.json", policy.read_json("policy/policy.json") | {"note": note})
    runner.manifests["teacher"] = runner.manifests["teacher"].model_copy(update={"counts": {"images": 4}})
    publish(runner, summary)
    return summary, tmp_path / "run" / "release"


def test_no_file_of_a_release_counts_few(tmp_path, monkeypatch):
    summary, folder = small_release(tmp_path, monkeypatch)
    texts = {name: (folder / name).read_text() for name in ("README.md", "student/README.md", "certificate.json")}
    page = Page((folder / "report.html").read_text())
    texts["report.html"] = " ".join(map(page.text, page.texts))
    for name, text in texts.items():
        assert WITHHELD in text, name
        assert not re.findall(FEW_COUNTED, text.replace("at least 5 patients", "at least k")), name
    assert "0.167" not in texts["report.html"]
    assert all(f"trained on {FEW} real images" in " ".join(text.split()) for text in list(texts.values())[:2])
    assert summary["reasons"][0].startswith("3 evaluation patients")


def test_no_number_of_a_small_role_is_in_a_public_page(tmp_path, monkeypatch):
    _, folder = small_release(tmp_path, monkeypatch)
    page = Page((folder / "report.html").read_text())
    told = {attributes["value"] for tag, attributes in page.elements if tag == "data"}
    assert told.isdisjoint(set("345679"))
    traces = [trace for drawn in drawings(page) for trace in drawn["data"]]
    assert not {trace.get("name") for trace in traces} & {"probe", "calibration", "evaluation", STRANGERS}
    assert not re.search(r'n = \d"', json.dumps(traces))


def test_the_certificate_of_large_groups_leaves_as_it_was_judged(tmp_path):
    runner, summary = build(tmp_path)
    publish(runner, summary)
    judged = runner.artifact("decision", KEY).read_bytes("certificate.json")
    assert (tmp_path / "release" / "certificate.json").read_bytes() == judged
