"""The page of a run that isn't whole: in progress, skipped in part, nothing flagged, everything flagged."""

import pytest

from raydistill.core.config import Config
from raydistill.report.html import render
from tests.report.builder import NODES, NOTES, build
from tests.report.page import Page
from tests.report.runs import NOTHING_KEPT, SKIPPED, unfinished, without_student

pytestmark = pytest.mark.usefixtures("without_plotly")
ANYWAY = Config(name="phantom", release={"release_anyway": True})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build(tmp_path_factory.mktemp("run"), ANYWAY)[0]


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4, 6, 7, 9, 11, 15, 19])
def test_a_run_in_progress_renders(whole, count, public):
    page = Page(render(*unfinished(whole, count), public=public))
    assert page.text("summary").startswith("…Not decided")
    assert f"{count} of 20 nodes are finished." in page.text("summary")
    assert all(node in page.text("run") for node in NODES)
    assert ("running" in page.text("run")) is not public


def test_a_failed_node_is_named(whole):
    runner, summary = unfinished(whole, 4)
    summary["nodes"]["teacher"]["state"] = "failed"
    page = Page(render(runner, summary, public=False))
    assert "4 of 20 nodes are finished; failed: teacher." in page.text("summary")


def test_an_unfinished_run_is_not_said_to_be_released_anyway(whole):
    assert whole.config == ANYWAY
    assert "release anyway" not in Page(render(*unfinished(whole, 12), public=False)).text("summary")


def test_a_run_against_the_verdict_says_so_on_top(tmp_path):
    page = Page(render(*build(tmp_path, ANYWAY, verdict="fail"), public=True))
    assert "says to release anyway (release.release_anyway), against this verdict" in page.text("summary")


def test_a_run_that_passed_needs_no_such_word(tmp_path):
    assert "release anyway" not in Page(render(*build(tmp_path, ANYWAY), public=True)).text("summary")


@pytest.mark.parametrize("public", [False, True])
def test_skipped_nodes_are_named_with_their_reason(tmp_path, public):
    runner, summary = build(tmp_path, ANYWAY)
    page = Page(render(runner, without_student(runner, summary), public=public))
    first = page.text("summary")
    assert "✕Fail There is no student, so there is nothing to judge and nothing to release." in first
    assert f"Skipped: {', '.join(sorted(SKIPPED, key=NODES.index))} ({NOTHING_KEPT})." in first
    assert "release anyway" not in first
    assert page.text("run").count(f"skipped: {NOTHING_KEPT}") == len(SKIPPED)
    assert "Student images" not in first
    assert "teacher samples" in page.text("privacy")
    assert "student samples" not in page.text("privacy") + page.text("distributions")
    assert "Sensitivity" in page.text("filtering")


def test_a_skipped_node_took_no_time_worth_drawing(tmp_path):
    runner, summary = build(tmp_path)
    runs = {"whole": summary, "skipped": without_student(runner, summary)}
    html = render(runner, runs["skipped"], public=False)
    drawing = next(text for text in Page(html).scripts if text.startswith("{") and '"ingest"' in text)
    assert '"teacher"' in drawing
    assert '"student"' not in drawing


def test_a_run_without_any_teacher_sample_renders(tmp_path):
    runner, summary = build(tmp_path)
    nothing = {"files": [], "counts": {}, "facts": {"skipped": "no sample could be made"}}
    for node in NODES[5:19]:
        runner.artifact(node, runner.manifests[node].key).delete()
        runner.manifests[node] = runner.manifests[node].model_copy(update=nothing)
    summary |= {"verdict": "fail", "metrics": {group: {} for group in summary["metrics"]}}
    page = Page(render(runner, summary, public=False))
    assert "Nothing has been matched" in page.text("distributions")
    assert "Real train images" in page.text("pictures")


@pytest.mark.parametrize(("scores", "flagged"), [((0.3, 0.8), 0), ((0.95, 1.0), 47)])
def test_nothing_or_everything_flagged_renders(tmp_path, scores, flagged):
    runner, summary = build(tmp_path, teacher_scores=scores, student_scores=scores)
    assert summary["metrics"]["student"]["reidentification_rate"]["value"] == flagged / 47
    internal, public = (Page(render(runner, summary, public=public)) for public in (False, True))
    assert len(public.images()) == (0 if flagged else 24)
    assert ("None." in public.text("pictures")) is bool(flagged)
    assert ("Patients most often matched by student samples" in internal.text("pictures")) is bool(flagged)
    assert internal.text("pictures").count("auditor: flagged") == (32 if flagged else 0)


def test_what_a_node_noted_stands_beside_it_inside(whole):
    inside, outside = (render(*unfinished(whole, 20), public=public) for public in (False, True))
    assert NOTES[0] in inside
    assert NOTES[0] not in outside
