"""The page: self-contained, complete, honest about what is missing, and without a patient in its public edition."""

import base64
import json

import pytest

from raydistill.core.secret import run_secret
from raydistill.report.html import render, show
from raydistill.report.patients import pseudonym
from raydistill.report.pictures import picture
from raydistill.report.verdict import BANNERS
from raydistill.report.words import LIMITS, is_one_treatment, title
from tests.report.builder import SECRET, build
from tests.report.page import Page

LOADING = {"src", "href", "srcset", "data", "action", "poster", "xlink:href", "formaction", "background"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return build(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def editions(finished):
    return {public: render(*finished, public=public) for public in (False, True)}


@pytest.fixture(autouse=True)
def _quick(finished, editions, without_plotly):
    """Plotly itself is in the pages of the fixture alone."""


@pytest.mark.parametrize("public", [False, True])
def test_nothing_is_loaded_from_anywhere(editions, public):
    page = Page(editions[public])
    addresses = [value for _, attributes in page.elements for name, value in attributes.items() if name in LOADING]
    assert len(addresses) > 20
    assert max(map(len, page.scripts)) > 1_000_000
    assert [address for address in addresses if not address.startswith(("data:", "#"))] == []
    assert not {"iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    looks = page.styles + [attributes.get("style", "") for _, attributes in page.elements]
    assert not [look for look in looks if "url(" in look or "@import" in look]
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.split("; ")[:2] == ["default-src 'none'", "img-src data:"]


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("verdict", ["pass", "fail", "insufficient_evidence"])
def test_verdict_and_reasons_stand_on_top(tmp_path, verdict, public):
    runner, summary = build(tmp_path, verdict=verdict)
    html = render(runner, summary, public=public)
    page = Page(html)
    first = page.text("summary")
    assert first.startswith(f"{BANNERS[verdict].sign}{BANNERS[verdict].word} ")
    assert BANNERS[verdict].sentence in first
    assert all(reason in first for reason in summary["reasons"])
    assert list(page.texts)[1] == "summary"
    assert "release anyway" not in first
    assert f"<title>{BANNERS[verdict].word}: phantom" in html
    assert ("INTERNAL: contains real images" in page.text()) is not public
    assert all(limit in page.text("limits") for limit in LIMITS)


@pytest.mark.parametrize("public", [False, True])
def test_what_was_held_against_a_budget_is_sorted_by_how_it_ended(tmp_path, public):
    html = render(*build(tmp_path, verdict="fail"), public=public)
    broken, kept = html.index("1 of 2 break their budget"), html.index("1 of 2 keep their budget")
    between = Page(html[broken:kept] + "</section>").text()
    assert "filterSensitivity" in between
    assert "at least 80\xa0%" in between
    assert html[:broken].endswith("<details open><summary>")
    assert "Excess risk" in html[kept : html.index("The same in sentences")]


@pytest.mark.parametrize("public", [False, True])
def test_every_metric_of_every_group_is_shown_with_value_interval_and_n(finished, editions, public):
    page, metrics = Page(editions[public]), finished[1]["metrics"]
    assert set(metrics) == {"teacher", "filtered", "student", "real", "filter", "selftest", "tune", "search"}
    for group, results in metrics.items():
        where = page.text("filtering" if group in ("filter", "selftest", "tune", "search") else "metrics")
        if group == "search":
            assert (
                "the search's setting beats both thresholds at an FPIR of 1 %, or the least that calibration supports, and can't "
                "be told from no filter (each at 97.5 % by itself, all 2 together at 95 % or more)" in where
            )
            continue
        assert results
        for name, result in results.items():
            unit = "" if is_one_treatment(name) else result["unit"]
            assert is_one_treatment(name) or title(name).name in where
            assert result["value"] is None or show(result["value"], unit) in where
            assert all(show(edge, unit) in where for edge in result["interval"] or ())
            assert show(result["n"]) in where


def test_a_metric_without_a_value_says_why(tmp_path):
    runner, summary = build(tmp_path)
    summary["metrics"]["selftest"]["sensitivity.blur"] |= {
        "value": None,
        "interval": None,
        "note": "insufficient: one copy",
    }
    page = Page(render(runner, summary, public=False))
    assert "insufficient28 patients; 30 are needed" in page.text("metrics")
    assert "insufficientone copy" in page.text("filtering")
    assert "insufficient: one positive" in page.text("utility")


def test_a_metric_nobody_wrote_words_for_is_shown(tmp_path):
    runner, summary = build(tmp_path)
    new = summary["metrics"]["student"]["excess_risk"] | {"value": 0.0123, "interval": [0.0111, 0.0199]}
    for group in ("teacher", "student", "filter", "selftest"):
        summary["metrics"][group][f"brand_new_{group}.part_1"] = new
    page = Page(render(runner, summary, public=False))
    assert all(f"brand new {group}.part 1" in page.text("metrics") for group in ("teacher", "student"))
    assert all(f"brand new {group}.part 1" in page.text("filtering") for group in ("filter", "selftest"))
    assert page.text("metrics").count("1.23\N{NO-BREAK SPACE}%1.11\N{NO-BREAK SPACE}%") == 2


def test_real_images_and_patients_hashes_are_in_the_internal_edition_alone(finished, editions):
    runner = finished[0]
    records = [
        runner.artifact("ingest", "0123456789abcdef").read_table(role).to_pylist() for role in ("train", "probe")
    ]
    real = {picture(row["image"], "").uri for rows in records for row in rows}
    key = run_secret(runner.run)
    hashes = {pseudonym(key, row["patient_id"]) for rows in records for row in rows}
    internal, public = editions[False], editions[True]
    assert len(real & set(Page(internal).images())) >= 24
    assert not real & set(Page(public).images())
    assert not [row for rows in records for row in rows if base64.b64encode(row["image"]).decode() in public]
    assert any(name in internal for name in hashes)
    assert not any(name in public for name in hashes)
    assert key.hex() not in internal + public


def test_neither_edition_names_a_patient(editions):
    assert SECRET not in editions[True]
    assert SECRET not in editions[False]


def test_the_public_edition_shows_kept_student_samples_alone(finished, editions):
    runner = finished[0]
    samples, verdicts = (
        runner.artifact(node, "0123456789abcdef").read_table(name).to_pylist()
        for node, name in (("student_samples", "samples"), ("student_verdicts", "verdicts"))
    )
    keep = {row["sample_id"] for row in verdicts if row["keep"]}
    may_be_shown = {picture(row["image"], "").uri for row in samples if row["sample_id"] in keep}
    shown = Page(editions[True]).images()
    assert len(shown) == 24
    assert set(shown) <= may_be_shown


def test_drawings_are_json_that_cannot_end_their_element(editions):
    drawings = [text for text in Page(editions[False]).scripts if text.startswith("{")]
    assert len(drawings) == 16
    assert all("<" not in text and json.loads(text)["layout"]["height"] > 100 for text in drawings)


def test_what_decided_stands_before_what_is_merely_uncertain(tmp_path):
    runner, summary = build(tmp_path / "run", verdict="fail")
    page = render(runner, {**summary, "reasons": [*summary["reasons"], "Something is too blind."]}, public=False)
    decided, blind = page.find("1 of 3 break their budget"), page.find("1 of 3 lack what any claim needs")
    assert 0 < decided < blind < page.find("Something is too blind.") < page.find("1 of 3 keep their budget")
    assert "1 of 3 checks lack the evidence to tell" in Page(page).text("summary")
    runner, summary = build(tmp_path / "touched", verdict="fail")
    touched = "The student has touched real data."
    page = Page(render(runner, {**summary, "reasons": [touched, *summary["reasons"]]}, public=False)).text("summary")
    assert page.startswith(f"✕Fail {touched}")
    assert page.count(touched) == 1
