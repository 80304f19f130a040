"""Every number can be traced to its table, and no text from the data is taken for HTML."""

import json

import pyarrow.parquet as pq
import pytest

from raydistill.metrics.result import MetricResult, results_table
from raydistill.report.html import render
from tests.report.builder import build
from tests.report.page import Page

pytestmark = pytest.mark.usefixtures("without_plotly")
KEY = "0123456789abcdef"
BAD = "</script><img src=x onerror=alert(1)><b>bold</b>"


@pytest.mark.parametrize("public", [False, True])
def test_every_source_that_is_named_is_there(tmp_path, public):
    runner, summary = build(tmp_path)
    page = Page(render(runner, summary, public=public))
    named = {code for code in page.codes if "/" in code and "<" not in code}
    assert len(named) > (20 if public else 25)
    assert [path for path in named if not runner.run.exists(path)] == []


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return render(*build(tmp_path_factory.mktemp("run")), public=False)


def test_every_figure_grid_and_table_names_its_source(html):
    figures = html.split("<figure")[1:]
    assert len(figures) == 16
    assert all('class="source">Read from <code>' in figure.split("</figure>")[0] for figure in figures)
    pictures = Page(html).text("pictures")
    for heading in ("Real train images", "Student samples", "Teacher, by structure", "Planted near-copies"):
        assert "Read from" in pictures.split(heading)[1][:4000]
    for path in (f"teacher_evaluation/{KEY}/tables/audit.parquet", f"student_matches/{KEY}/auditor/samples"):
        assert path in pictures
    assert f"selftest/{KEY}/agreement/agreement.json" in Page(html).text("filtering")


@pytest.mark.parametrize(
    ("metric", "place"),
    [
        ("Re-identification rate", "student_evaluation/{}/tables/audit.parquet"),
        ("Near-copies beyond chance", "student_evaluation/{}/tables/audit.parquet"),
        ("Strangers' rate", "student_matches/{}/auditor/evaluation"),
        ("Findings AUROC", "student_evaluation/{}/predictions"),
        ("Precision", "student_evaluation/{}/metrics.json"),
    ],
)
def test_a_metric_is_recomputed_from_the_nearest_table(html, metric, place):
    text = Page(html).text("metrics")
    assert place.format(KEY) in text.split(f"How it was measured: {metric}")[1].split("How it was measured")[0]


def rewrite(runner, node, name, change):
    """Change a table of an artifact in place; the report takes artifacts as they are."""
    folder = runner.artifact(node, KEY)
    folder.write_table(name, change(pq.read_table((folder / name).path)))


def test_texts_from_the_data_are_shown_and_not_obeyed(tmp_path):
    runner, summary = build(tmp_path)
    prompts = [BAD] * 24
    result = MetricResult(value=0.7, interval=(0.6, 0.8), n=40, unit="area", estimator="patient bootstrap")
    rewrite(
        runner, "student_samples", "samples/part-00000.parquet",
        lambda t: t.set_column(t.column_names.index("prompt"), "prompt", [prompts]),
    )  # fmt: skip
    rewrite(runner, "student_evaluation", "tables/by_finding.parquet", lambda _: results_table({BAD: result}))
    summary["reasons"] = [f"reason {BAD}"]
    summary["metrics"]["student"]["recall"] |= {"note": BAD}
    before = {tag for tag, _ in Page(render(*build(tmp_path / "other"), public=False)).elements}
    html = render(runner, summary, public=False)
    page = Page(html)
    assert {tag for tag, _ in page.elements} == before
    assert not [attributes for _, attributes in page.elements if attributes.keys() & {"onerror", "onclick"}]
    assert all(image.startswith("data:image/png;base64,") for image in page.images())
    assert f"reason {BAD}" in page.text("summary")
    assert BAD in page.text("metrics")
    assert BAD in page.text("utility")
    assert any(BAD in attributes.get("alt", "") for _, attributes in page.elements)
    drawn = next(json.loads(text) for text in page.scripts if "onerror" in text)
    assert BAD.replace("<", "&lt;") in drawn["layout"]["yaxis"]["ticktext"]
