"""Names of methods stand once on a page, under numbers; terms are in the glossary."""

import pytest

from raydistill.report.html import render
from raydistill.report.methods import counted, method_of, methods
from tests.report.builder import build
from tests.report.page import Page

pytestmark = pytest.mark.usefixtures("without_plotly")
NAMES = ("MOVER", "Korn-Graubard", "mid-P")


def result(estimator, reference=None):
    return {"estimator": estimator, "reference": reference}


@pytest.mark.parametrize(
    ("estimator", "how", "number"),
    [
        (
            "mean over records; patient-clustered Korn-Graubard interval (mid-P) at 95 % (9 clusters, worth 4 records)",
            "mean over records; patient-clustered Korn-Graubard interval (mid-P)",
            "9 clusters, worth 4 records",
        ),
        ("(rate - control) / (1 - control); MOVER-R at 98.75 %", "(rate - control) / (1 - control); MOVER-R", ""),
        ("bootstrap (500 resamples of 66 patients), logit", "bootstrap, logit", "500 resamples of 66 patients"),
        ("two, both at 95 %", "two", ""),
        ("none", "", ""),
        ("", "", ""),
    ],
)
def test_a_method_is_told_apart_from_what_it_counted(estimator, how, number):
    assert method_of(result(estimator)) == how
    assert counted(result(estimator)) == number


def test_one_way_to_estimate_is_one_method_with_all_its_citations():
    group = {
        "a": result("mean at 95 % (3 clusters)", "A 1998"),
        "b": result("mean at 99 % (4 clusters)", "B 2002; A 1998"),
        "c": result("count"),
        "d": result("none", "C"),
    }
    found = methods({"student": group, "teacher": {"a": result("mean")}})
    assert [(one.number, one.how, one.references) for one in found.values()] == [
        (1, "mean", ["A 1998", "B 2002"]),
        (2, "count", []),
    ]


@pytest.mark.parametrize("public", [False, True])
def test_names_of_methods_stand_once_and_not_in_the_cells(tmp_path, public):
    page = Page(render(*build(tmp_path), public=public))
    for section in set(page.texts) - {None, "glossary"}:
        assert not [name for name in NAMES if name in page.text(section)], section
    listed = page.text("glossary").split("Methods How")[1]
    assert "patient-clustered Korn-Graubard interval (mid-P)" in listed
    anchors = {attributes["id"] for _, attributes in page.elements if attributes.get("id", "").startswith("method-")}
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    named = {link.removeprefix("#") for link in links if link.startswith("#method-")}
    assert named
    assert named <= anchors
    assert "clusters, worth" in page.text("metrics")


@pytest.mark.parametrize(
    "term", ["Budget", "Jaccard", "Kappa", "AUROC", "Shadow model", "Unseen gallery", "Test of proof"]
)
def test_terms_are_explained(tmp_path, term):
    assert term in Page(render(*build(tmp_path), public=True)).text("glossary")
