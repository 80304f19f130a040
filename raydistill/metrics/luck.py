"""The luck of training: how far classifiers that are taught alike differ, and what that adds to an interval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from raydistill.metrics.result import MetricResult
from raydistill.metrics.utility import within


@dataclass(frozen=True)
class Luck:
    """How much a figure of equally taught classifiers differs.

    Args:
        variance: of one classifier's figure.
        freedom: degrees of freedom that it is known by; with 0 nothing is known.
    """

    variance: float
    freedom: int


def pooled(groups: Iterable[Sequence[float]]) -> Luck:
    """Return the variance of a figure among classifiers that differ by their seeds alone, of all groups of such.

    Source: pooled variance, as the error term of a one-way analysis of variance; Fisher 1925.
    """
    squares, freedom = 0.0, 0
    for group in groups:
        squares += float(np.square(np.asarray(group, float) - np.mean(group)).sum())
        freedom += len(group) - 1
    return Luck(squares / freedom if freedom else 0.0, freedom)


def together(parts: Iterable[tuple[Luck, float]]) -> dict[Luck, float]:
    """Add up how often each luck counts: two that are one and the same estimate are known no better for it."""
    counted: dict[Luck, float] = {}
    for luck, share in parts:
        counted[luck] = counted.get(luck, 0.0) + share
    return counted


def reach(parts: Mapping[Luck, float], confidence: float) -> float:
    """Return half the width of an interval of a sum of lucks; infinite where nothing is known of one.

    Args:
        parts: how many times the variance of each counts; their estimates are independent.
        confidence: two-sided confidence, in (0, 1).

    Source: Satterthwaite 1946, Biometrics Bulletin 2:110; of two of them Welch 1947, Biometrika 34:28.
    """
    if not all(luck.freedom for luck in parts):
        return float("inf")
    errors = {luck: share * luck.variance for luck, share in parts.items()}
    total = sum(errors.values())
    if total == 0.0:
        return 0.0
    freedom = total**2 / sum(error**2 / luck.freedom for luck, error in errors.items())
    return float(stats.t.ppf(0.5 + confidence / 2, freedom) * np.sqrt(total))


def widened(result: MetricResult, parts: Mapping[Luck, float], ends: tuple[float, float]) -> MetricResult:
    """Return a result in whose interval the luck of training is counted in.

    Args:
        result: a mean over trainings, or a difference of two.
        parts: how many times the variance of each luck counts.
        ends: the least and the most that can be.

    Source: MOVER, Zou and Donner 2008, Statistics in Medicine 27:1693.
    """
    if result.value is None or result.interval is None:
        return result
    value, more = result.value, reach(parts, result.confidence)
    low, high = (float(np.hypot(value - end, more)) for end in result.interval)
    known = "; ".join(
        f"standard deviation of a training {np.sqrt(luck.variance):.3g}, {luck.freedom} degrees of freedom"
        for luck in parts
    )
    how = f"{result.estimator}; mean of trainings, their luck by MOVER ({known})"
    return result.model_copy(update={"interval": within((value - low, value + high), *ends), "estimator": how})
