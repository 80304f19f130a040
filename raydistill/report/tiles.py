"""The few numbers of the page's first screen, those that decide first."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raydistill.core.config import Budgets
from raydistill.metrics.result import Check, Kind
from raydistill.report.numbers import show
from raydistill.report.verdict import BANNERS, worst_leak
from raydistill.report.words import ADJUSTED, STRANGERS

Result = Mapping[str, Any]
Metrics = Mapping[str, Mapping[str, Result]]

BESIDE: dict[Kind, str] = {"max": "budget ≤", "min": "budget ≥"}


@dataclass(frozen=True)
class Tile:
    """One number of the first screen and what to hold it against.

    Args:
        label: what it is.
        result: the metric.
        beside: what the other number is.
        other: a control, a reference or a budget.
        remark: half a sentence on the other number.
        tone: the verdict that its budget alone would make; None where there is none, or no number to hold against it.
        mark: the same in words, behind a sign.
        is_upper_end: whether the number shown is the upper end of the interval, with the estimate below it.
    """

    label: str
    result: Result
    beside: str
    other: float | None
    remark: str = ""
    tone: str | None = None
    mark: str = ""
    is_upper_end: bool = False


def tiles(metrics: Metrics, budgets: Budgets) -> list[Tile]:
    """Choose the numbers of the first screen; those that weren't measured are left out."""
    student, selftest, real = (metrics.get(group, {}) for group in ("student", "selftest", "real"))
    attack = student.get("membership_calibrated_auc") or student.get("membership_auc")
    sees = budgets.min_sensitivity
    way, most = worst_leak(student) or ("as asked for by default", student.get("leak_rate"))
    leak = _budgeted(f"Student images, {way}, that may show a patient, at most", most, budgets.max_leak_rate)
    betrays = "How well the student betrays whose images the teacher saw (membership AUC; 0.5 is chance)"
    chosen = (
        leak and replace(leak, is_upper_end=True),
        _budgeted(betrays, attack, budgets.max_membership_auc),
        _taken(student),
        _budgeted("Student's excess risk over chance", student.get("excess_risk"), budgets.max_excess_risk),
        _budgeted("Student's near-copies beyond chance", student.get("near_copy_excess"), budgets.max_near_copy_excess),
        _learnt(student, real, budgets.max_utility_loss),
        _budgeted("Planted near-copies the filter catches", selftest.get("sensitivity"), sees, "min"),
        _budgeted("Of the teacher's own near-copies", selftest.get("sensitivity.generator"), sees, "min"),
    )
    return [tile for tile in chosen if tile]


def _budgeted(label: str, result: Result | None, budget: float, kind: Kind = "max") -> Tile | None:
    return _marked(Tile(label, result, BESIDE[kind], budget), result, budget, kind) if result else None


def _taken(student: Mapping[str, Result]) -> Tile | None:
    """Hold how many are taken for a patient against what chance comes to, and say what that was made of."""
    rate, strangers = student.get("reidentification_rate"), student.get("control_rate", {}).get("value")
    if rate is None:
        return None
    tile = Tile("Student images taken for a real patient", rate, STRANGERS, rate["control"])
    if strangers is None or strangers == rate["control"]:
        return tile
    made = f" ({STRANGERS} of {show(strangers, rate['unit'])}, scaled to pictures as average as these)"
    return replace(tile, beside=ADJUSTED, remark=made)


def _learnt(student: Mapping[str, Result], real: Mapping[str, Result], budget: float) -> Tile | None:
    area, lost = student.get("utility_auroc"), student.get("utility_loss")
    if area is None:
        return None
    tile = Tile(
        "Findings AUROC learnt from student images", area, "real images", real.get("utility_auroc", {}).get("value")
    )
    return _marked(tile, lost, budget, "max", "the loss ") if lost else tile


def _marked(tile: Tile, result: Result, budget: float, kind: Kind, what: str = "") -> Tile:
    """Say on a tile how a result keeps a budget, but for one that isn't shown or judges nothing."""
    if result["value"] is None or (kind == "min" and not budget):
        return tile
    check = Check(metric=tile.label, value=result["value"], interval=result["interval"], budget=budget, kind=kind)
    return replace(tile, tone=check.outcome, mark=f"{BANNERS[check.outcome].sign} {what}{check.ending}")
