"""The few numbers of the page's first screen, those that decide first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raydistill.core.config import Budgets

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]

AT_MOST, AT_LEAST = "budget ≤", "budget ≥"


@dataclass(frozen=True)
class Tile:
    """One number of the first screen and what to hold it against.

    Args:
        label: what it is.
        result: the metric.
        beside: what the other number is.
        other: a control, a reference or a budget.
        is_upper_end: whether the number shown is the upper end of the interval, with the estimate below it.
    """

    label: str
    result: Mapping[str, Any]
    beside: str
    other: float | None
    is_upper_end: bool = False


def tiles(metrics: Metrics, budgets: Budgets) -> list[Tile]:
    """Choose the numbers of the first screen; those that weren't measured are left out."""
    student, selftest, real = (metrics.get(group, {}) for group in ("student", "selftest", "real"))
    taken, learnt = student.get("reidentification_rate"), real.get("utility_auroc", {}).get("value")
    attack = student.get("membership_calibrated_auc") or student.get("membership_auc")
    leak, sees = student.get("leak_rate"), budgets.min_sensitivity
    chosen = (
        ("Student images that may show a patient, at most", leak, AT_MOST, budgets.max_leak_rate, True),
        (
            "Membership: how well an attack on the student tells whose images the teacher saw; 0.5 is chance",
            attack,
            AT_MOST,
            budgets.max_membership_auc,
        ),
        ("Student images taken for a real patient", taken, "control", (taken or {}).get("control")),
        ("Student's excess risk over chance", student.get("excess_risk"), AT_MOST, budgets.max_excess_risk),
        ("Student's near-copies beyond chance", student.get("near_copy_excess"), AT_MOST, budgets.max_near_copy_excess),
        ("Findings AUROC learnt from student images", student.get("utility_auroc"), "real images", learnt),
        ("Planted near-copies the filter catches", selftest.get("sensitivity"), AT_LEAST, sees),
        ("Of the teacher's own near-copies", selftest.get("sensitivity.generator"), AT_LEAST, sees),
    )
    return [Tile(label, result, *rest) for label, result, *rest in chosen if result is not None]
