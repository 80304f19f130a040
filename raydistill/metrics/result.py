"""A number never travels alone: `MetricResult`, and how results and budgets become a verdict."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

RESULTS = pa.schema(
    [(name, pa.string()) for name in ("name", "unit", "estimator", "note")]
    + [(name, pa.float64()) for name in ("value", "low", "high", "confidence", "control")]
    + [("n", pa.int64())]
)
"""Columns of `results_table`."""

Verdict = Literal["pass", "fail", "insufficient_evidence"]
Kind = Literal["max", "min", "unproven"]


class MetricResult(BaseModel):
    """One measured number with everything needed to read it.

    Args:
        value: the point estimate, finite; `None` when the data can't support one, and `note` then says why.
        interval: lower and upper bound, finite and ordered; `None` where no honest interval exists.
        confidence: the interval's nominal two-sided confidence, in (0, 1).
        n: number of images (samples, records) the value was computed from.
        unit: what the value counts, such as `share of samples`.
        estimator: how value and interval were computed, in words.
        control: the same quantity measured where nothing can have leaked, or between two real sets.
        baseline: the value under no effect, such as 0.5 for an AUC.
        reference: a short citation of the formula.
        note: what a reader must know before quoting the value.
        table: the artifact's table from which the value can be recomputed.

    Raises:
        ValueError: when a number isn't finite, the interval is reversed, or a missing value has no note.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float | None
    interval: tuple[float, float] | None = None
    confidence: float = Field(0.95, gt=0.0, lt=1.0)
    n: int = Field(ge=0)
    unit: str
    estimator: str
    control: float | None = None
    baseline: float | None = None
    reference: str | None = None
    note: str | None = None
    table: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "MetricResult":
        if self.value is None and (not self.note or self.interval is not None):
            raise ValueError("a result without a value needs a note that says why, and has no interval")
        if self.interval is not None and self.interval[0] > self.interval[1]:
            raise ValueError(f"interval {self.interval} is reversed")
        return self

    def with_note(self, note: str) -> "MetricResult":
        """Return a copy whose note also says `note`."""
        return self.model_copy(update={"note": f"{self.note}; {note}" if self.note else note})


def insufficient(
    why: str, *, n: int, unit: str, confidence: float = 0.95, reference: str | None = None
) -> MetricResult:
    """Return the result of a measurement the data can't support.

    Args:
        why: what is missing and how much would be enough.
        n: number of images there were.
        unit: unit the value would have had.
        confidence: confidence the interval would have had.
        reference: citation of the formula.
    """
    return MetricResult(
        value=None,
        confidence=confidence,
        n=n,
        unit=unit,
        estimator="none",
        note=f"insufficient: {why}",
        reference=reference,
    )


def results_table(results: Mapping[str, MetricResult]) -> pa.Table:
    """Return results as a table for people and spreadsheets.

    Args:
        results: by name, such as a subgroup or a finding.

    Returns:
        One row a result, columns `RESULTS`.
    """
    rows = [
        {**result.model_dump(), "name": name, **dict(zip(("low", "high"), result.interval or (), strict=False))}
        for name, result in results.items()
    ]
    return pa.Table.from_pylist(rows, schema=RESULTS)


SIDES: dict[Kind, str] = {"max": "at most", "min": "at least", "unproven": "no proof of more than"}
"""How a metric is held against its budget, in words."""

ENDINGS: dict[Verdict, str] = {
    "pass": "keeps its budget",
    "fail": "breaks its budget",
    "insufficient_evidence": "is too uncertain for its budget",
}
PROOFS: dict[Verdict, str] = {
    "pass": "passes its test of proof",
    "fail": "fails its test of proof",
    "insufficient_evidence": "has no number for its test of proof",
}
"""How a check ends, in words without a number; a test of proof is a check of the kind `unproven`."""


class Check(BaseModel):
    """One metric held against its budget.

    Args:
        metric: the metric's name, with whose it is, such as `student.excess_risk`.
        value: the point estimate.
        interval: its interval.
        budget: the bound.
        kind: `max` when the metric must stay at or below the budget, `min` when at or above; `unproven` when all that
            fails is an interval that lies above the budget, however wide it is.
        confidence: confidence of the interval, in (0, 1).
        note: why there is no value, when there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: str
    value: float | None
    interval: tuple[float, float] | None
    budget: float
    kind: Kind
    confidence: float = 0.95
    note: str | None = None

    @classmethod
    def of(cls, metric: str, result: MetricResult, budget: float, kind: Kind) -> "Check":
        """Hold a result against a budget."""
        return cls(
            metric=metric,
            value=result.value,
            interval=result.interval,
            budget=budget,
            kind=kind,
            confidence=result.confidence,
            note=result.note,
        )

    @property
    def outcome(self) -> Verdict:
        """Return `pass` when the whole interval keeps the budget, `fail` when the whole interval breaks it.

        An interval that straddles the budget, or a missing value or interval, is `insufficient_evidence`.
        """
        if self.value is None or self.interval is None:
            return "insufficient_evidence"
        low, high = self.interval
        kept, broken = (high <= self.budget, low > self.budget)
        if self.kind == "min":
            kept, broken = (low >= self.budget, high < self.budget)
        if self.kind == "unproven":
            kept = not broken
        return "pass" if kept else "fail" if broken else "insufficient_evidence"

    @property
    def is_unsettled(self) -> bool:
        """Whether it passes for want of proof: only an interval above the budget fails it, and this one straddles."""
        passes = self.kind == "unproven" and self.outcome == "pass"
        return passes and self.interval is not None and self.interval[1] > self.budget

    @property
    def ending(self) -> str:
        """Say the outcome without any number."""
        return (PROOFS if self.kind == "unproven" else ENDINGS)[self.outcome]

    @property
    def reason(self) -> str:
        """Say the outcome in one sentence that names the metric, value, interval and budget."""
        bound = f"{SIDES[self.kind]} {_digits(self.budget)}"
        left = f"its budget is {bound}" if self.kind != "unproven" else f"its test of proof ({bound}) can't be made"
        if self.value is None:
            return f"{self.metric} has no value ({self.note or 'not measured'}); {left}."
        if self.interval is None:
            return f"{self.metric} is {_digits(self.value)} without an interval; {left}."
        low, high = (_digits(edge) for edge in self.interval)
        level = f"{100 * self.confidence:g} % interval"
        return f"{self.metric} is {_digits(self.value)} ({level} {low} to {high}) and {self._relation(bound)}."

    def _relation(self, bound: str) -> str:
        """Say how the interval lies to the budget."""
        if self.kind != "unproven":
            return f"{self.ending.replace('its budget', 'the budget')} of {bound}"
        if self.outcome == "pass" and not self.is_unsettled:
            return f"{self.ending}: not even the upper end is more than {_digits(self.budget)}"
        said = "proven" if self.outcome == "fail" else "not proven"
        return f"{self.ending}: that it is more than {_digits(self.budget)} is {said}"


def decide(checks: Sequence[Check], short: Sequence[str], caveats: Sequence[str] = ()) -> tuple[Verdict, list[str]]:
    """Return the verdict of checks, and of what no claim can be made without.

    What broke a budget decided; what is short of evidence comes before what is merely uncertain.

    Args:
        checks: all of them.
        short: sentences; with any of them nothing passes.
        caveats: sentences that change no verdict, and must be read with every one; they come last.
    """
    verdict, reasons = judge(checks)
    broken = sum(check.outcome == "fail" for check in checks)
    verdict = "insufficient_evidence" if short and verdict == "pass" else verdict
    return verdict, [*reasons[:broken], *short, *reasons[broken:], *caveats]


def judge(checks: Sequence[Check]) -> tuple[Verdict, list[str]]:
    """Turn checks into one verdict.

    Args:
        checks: every metric with a budget; none at all is `insufficient_evidence`.

    Returns:
        `fail` if any check fails, else `insufficient_evidence` if any lacks evidence, else `pass`; and one sentence
        a check, those that decided the verdict first.
    """
    if not checks:
        return "insufficient_evidence", ["Nothing was held against a budget."]
    first, *_ = in_order = ranked(checks)
    return first.outcome, [check.reason for check in in_order]


def ranked(checks: Sequence[Check]) -> list[Check]:
    """Return checks with those first that decide a verdict."""
    order: tuple[Verdict, ...] = ("fail", "insufficient_evidence", "pass")
    return sorted(checks, key=lambda check: order.index(check.outcome))


def _digits(number: float) -> str:
    return f"{number:.4g}" if math.isfinite(number) else str(number)
