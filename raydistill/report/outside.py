"""The rule for small groups: a group of 1 to 10 images or patients is neither counted nor measured outside the house.

It hides groups, not hits: how many of 40 strangers are taken for a patient is the evidence, and shown. What follows
from the difference of two numbers that are shown isn't hidden.
"""

import re
from collections.abc import Mapping
from typing import Any

from raydistill.report.evidence import Artifacts

SMALLEST_PUBLIC_GROUP = 11
"""Images or patients.
Source: the cell size suppression policy of the US Centers for Medicare and Medicaid Services."""

FEW = f"fewer than {SMALLEST_PUBLIC_GROUP}"
WITHHELD = f"not shown: it counts {FEW} images or patients"
COUNTED = "images?|patients?|records?|clusters?|members?|non-members?|others?"
SMALL_COUNT = re.compile(rf"(?<![\w.,])(?:[1-9]|10)(?= (?:and \d+ )?(?:[a-z-]+ ){{0,2}}(?:{COUNTED})\b)")


def is_small(count: int | None) -> bool:
    """Whether a group of that many images or patients stays inside; none at all may be told."""
    return count is not None and 0 < count < SMALLEST_PUBLIC_GROUP


def count_outside(count: int | None) -> int | str | None:
    """Return a count as it may be told."""
    return FEW if is_small(count) else count


def outside(value: Any) -> Any:
    """Return a JSON value whose texts count no small group.

    Example:
        >>> outside(["8 new patients are too few.", {"unit": "3 to 8 patients", "share": 0.5}])
        ['fewer than 11 new patients are too few.', {'unit': '3 to fewer than 11 patients', 'share': 0.5}]
    """
    if isinstance(value, str):
        return SMALL_COUNT.sub(FEW, value)
    if isinstance(value, list):
        return [outside(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    told = {name: outside(part) for name, part in value.items()}
    # A note may also hold what follows from its count.
    return told | ({"note": WITHHELD} if told.get("note") != value.get("note") else {})


def summary_outside(artifacts: Artifacts, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary whose metrics and texts tell nothing of small groups.

    Args:
        artifacts: the run; the sizes of its roles say whether a control is a share of a small group.
        summary: the content of summary.json.
    """
    ingest = artifacts.manifests.get("ingest")
    images = ingest.facts.get("images", {}) if ingest else {}
    no_control = any(is_small(images.get(role)) for role in ("calibration", "evaluation"))
    metrics = {
        group: {name: _result(result, no_control) for name, result in results.items()}
        for group, results in summary["metrics"].items()
    }
    return {**outside(summary), "metrics": metrics}


def _result(result: Mapping[str, Any], no_control: bool) -> dict[str, Any]:
    """Hide the result of a small group: its share would tell its size."""
    told = {**outside(result), **({"control": None} if no_control else {})}
    hidden = {"value": None, "interval": None, "control": None, "n": None, "note": WITHHELD}
    return told | hidden if is_small(result["n"]) else told
