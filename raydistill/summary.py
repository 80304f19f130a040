"""`RUN/summary.json`: verdict, every node's state, every metric with its interval. The contract with other tools."""

from collections.abc import Mapping
from typing import Any

from raydistill.core.manifest import SCHEMA_VERSION, Manifest
from raydistill.report.evidence import DECISIONS
from raydistill.runner import Runner

EVALUATIONS = {
    "teacher": "teacher_evaluation",
    "filtered": "filtered_evaluation",
    "student": "student_evaluation",
    "real": "real_evaluation",
}


SEARCH = "search"
"""Group of what the search's setting and simple rules come to."""


def summarise(runner: Runner, states: Mapping[str, str]) -> dict[str, Any]:
    """Collect what is known so far.

    Args:
        runner: with the manifests of the finished nodes.
        states: node -> pending, running, done, cached or failed.

    Returns:
        The content of summary.json; `verdict` is null until the decision is made.
    """
    found = (_read(runner, node, "verdict.json") for node in DECISIONS)
    decision = next(filter(None, found), {"verdict": None, "reasons": ["The run isn't finished."]})
    groups = _read(runner, "verdicts", "metrics.json") or {}
    nodes = {**EVALUATIONS, "tune": "tune", SEARCH: "simple_rules"}
    metrics = {group: _read(runner, node, "metrics.json") or {} for group, node in nodes.items()}
    return {
        "schema": SCHEMA_VERSION,
        "name": runner.config.name,
        "verdict": decision["verdict"],
        "reasons": decision["reasons"],
        "nodes": {node: _node(runner, node, state) for node, state in states.items()},
        "metrics": {**metrics, "filter": groups.get("filter", {}), "selftest": groups.get("selftest", {})},
    }


def metric_tables(summary: Mapping[str, Any]) -> str:
    """Lay a summary's metrics out as Markdown tables, of the images and of the filter: value (interval) / control."""
    metrics = summary["metrics"]
    images = {group: metrics[group] for group in EVALUATIONS}
    filters = {"filter": {**metrics["filter"], **metrics["selftest"], **metrics.get("tune", {})}}
    rules = {rule: _of_rule(metrics.get(SEARCH, {}), rule) for rule in _rules(metrics.get(SEARCH, {}))}
    return "\n\n".join(_markdown(groups) for groups in (images, filters, rules) if groups)


def _rules(metrics: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[2] for name in metrics))


def _of_rule(metrics: Mapping[str, Any], rule: str) -> dict[str, Any]:
    return {name.partition(".")[0]: result for name, result in metrics.items() if name.partition(".")[2] == rule}


def _markdown(groups: Mapping[str, Mapping[str, Any]]) -> str:
    header = ("metric", *groups)
    names = dict.fromkeys(name for metrics in groups.values() for name in metrics)
    lines = [(f"`{name}`", *(_said(metrics.get(name)) for metrics in groups.values())) for name in names]
    rows = [header, ("---",) * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _said(result: Mapping[str, Any] | None) -> str:
    """Write value, interval and, after a stroke, the control."""
    if result is None:
        return ""
    if result["value"] is None:
        return "insufficient"
    interval = " to ".join(map(_digits, result["interval"] or ()))
    control = "" if result["control"] is None else f" / {_digits(result['control'])}"
    return _digits(result["value"]) + (f" ({interval})" if interval else "") + control


def _digits(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 and value != int(value) else f"{value:.4g}"


def _node(runner: Runner, node: str, state: str) -> dict[str, Any]:
    manifest: Manifest | None = runner.manifests.get(node)
    if manifest is None:
        return {"state": state, "uri": None, "key": None, "seconds": None, "rows": None}
    return {
        "state": state,
        "uri": runner.artifact(node, manifest.key).uri,
        "key": manifest.key,
        "seconds": manifest.seconds,
        "rows": next(iter(manifest.counts.values()), None),
    }


def _read(runner: Runner, node: str, name: str) -> Any:
    manifest = runner.manifests.get(node)
    if manifest is None or manifest.skipped:
        return None
    return runner.artifact(node, manifest.key).read_json(name)
