"""How far a run is and what its trials come to, among Ray's own metrics: for Prometheus, and cluster/grafana."""

from collections.abc import Mapping
from typing import Any

from raydistill.core.progress import Progress

NODE = {
    "node_done": "how much of a running node is done, in its unit",
    "node_total": "how much that will be; 0 while it isn't known",
}
TRIAL = {
    "trial_objective": "what the search makes large",
    "trial_kept_share": "share of samples that a trial's setting keeps",
    "trial_risk_high": "upper bound of the share of what it keeps that the judge takes for a train patient",
}
"""Gauges, `raydistill_…`, by what they say; tagged with the node, or with the trial."""


def watched(progress: Progress, node: str) -> Progress:
    """Return a progress that sets a node's gauges too, as long as Ray is there."""
    import ray

    gauges: dict[str, Any] = {}

    def tell(done: int, total: int, unit: str) -> None:
        progress(done, total, unit)
        if ray.is_initialized():
            gauges.update(gauges or _gauges(NODE, "node"))
            for name, value in (("node_done", done), ("node_total", total)):
                gauges[name].set(value, {"node": node})

    return tell


def show_trial(trial: str, measured: Mapping[str, Any]) -> None:
    """Set a trial's gauges to what it measured.

    Args:
        trial: its name.
        measured: with or without `objective`, `kept_share` and `risk_high`.
    """
    gauges = _gauges(TRIAL, "trial")
    for name, gauge in gauges.items():
        if (value := measured.get(name.removeprefix("trial_"))) is not None:
            gauge.set(float(value), {"trial": trial})


def _gauges(named: Mapping[str, str], tag: str) -> dict[str, Any]:
    from ray.util.metrics import Gauge

    return {name: Gauge(f"raydistill_{name}", said, (tag,)) for name, said in named.items()}
