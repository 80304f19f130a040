"""Runs that aren't whole: unfinished, or with nodes that had nothing to do."""

from raydistill.runner import Runner
from raydistill.summary import summarise
from tests.report.builder import NODES

NOTHING_KEPT = "student has no image to learn from: the filter kept no sample"
SKIPPED = (
    "student", "student_samples", "student_matches", "student_verdicts", "filtered_evaluation", "student_evaluation",
)  # fmt: skip


def unfinished(whole, finished):
    """Go back to the moment when only the first nodes of a run were finished; return its runner and summary then."""
    runner = Runner(whole.run, whole.config, [])
    runner.manifests = {node: whole.manifests[node] for node in NODES[:finished]}
    states = {node: "done" if node in runner.manifests else "pending" for node in NODES}
    if finished < len(NODES):
        states[NODES[finished]] = "running"
    return runner, summarise(runner, states)


def without_student(runner, summary):
    """Make of a whole run one whose filter kept nothing; return its summary."""
    for node in SKIPPED:
        manifest = runner.manifests[node]
        runner.artifact(node, manifest.key).delete()
        nothing = {"files": [], "counts": {}, "facts": {"skipped": NOTHING_KEPT}}
        runner.manifests[node] = manifest.model_copy(update=nothing)
    nodes = {
        node: {**found, "state": "skipped", "rows": None} if node in SKIPPED else found
        for node, found in summary["nodes"].items()
    }
    metrics = {**summary["metrics"], "student": {}, "filtered": {}}
    reasons = [f"There is no student to release: {NOTHING_KEPT}."]
    return {**summary, "verdict": "fail", "reasons": reasons, "nodes": nodes, "metrics": metrics}
