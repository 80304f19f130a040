"""Classifiers trained more than once on each of several sets: mean areas, the luck of training counted in."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from raydistill.metrics.bootstrap import Floats, WeightedStatistic, evaluate, resample
from raydistill.metrics.result import MetricResult, insufficient
from raydistill.metrics.utility import REFERENCE, described, fewer_patients, mean_area, supported


@dataclass(frozen=True)
class Luck:
    """How much the areas of equally taught classifiers differ.

    Args:
        variance: of one classifier's area.
        freedom: degrees of freedom that it is known by; with 0 nothing is known.
    """

    variance: float
    freedom: int

    def reach(self, parts: float, confidence: float) -> float:
        """Return half the width of an interval of a sum whose variance is `parts` of these; infinite if not known."""
        if not self.freedom:
            return float("inf")
        return float(stats.t.ppf(0.5 + confidence / 2, self.freedom) * np.sqrt(parts * self.variance))


def luck_of_training(labels: Any, groups: Iterable[Any]) -> Luck:
    """Return the variance of the areas of classifiers that differ by their seeds alone, pooled over groups of them.

    Args:
        labels: (N, F) of 0 and 1.
        groups: (S, N, F) scores of S such classifiers, each.

    Source: pooled variance, as the error term of a one-way analysis of variance; Fisher 1925.
    """
    truth = np.asarray(labels, dtype=bool)
    used = supported(truth)
    if not used.any():
        return Luck(0.0, 0)
    squares, freedom = 0.0, 0
    for group in groups:
        areas = [evaluate(mean_area(truth[:, used], own[:, used]), len(truth)) for own in np.asarray(group, float)]
        squares += float(np.square(np.array(areas) - np.mean(areas)).sum())
        freedom += len(areas) - 1
    return Luck(squares / freedom if freedom else 0.0, freedom)


def repeated_auroc(
    labels: Any,
    scores: Any,
    patients: Any,
    luck: Luck,
    confidence: float = 0.95,
    bootstrap: int = 500,
    seed: int = 0,
) -> MetricResult:
    """Return the mean macro area of S classifiers taught alike.

    Args:
        labels: (N, F) of 0 and 1, real evaluation images.
        scores: (S, N, F), higher means likelier.
        patients: (N,) patient of each image.
        luck: of training.
        confidence: two-sided confidence, in (0, 1).
        bootstrap: resamples of patients.
        seed: root of the resamples; equal for everything to be compared.

    Source: as `utility.macro_auroc`; the two sources of error put together by MOVER, Zou and Donner 2008.
    """
    truth, unit = np.asarray(labels, dtype=bool), "mean area under the ROC curve over findings and trainings"
    used, count = supported(truth), len(scores)
    if not used.any():
        return _nothing(used, len(truth), unit, confidence)
    mean = _mean(truth[:, used], np.asarray(scores, float)[..., used])
    value = evaluate(mean, len(truth))
    spread = resample(mean, patients, repetitions=bootstrap, seed=seed)
    interval = spread.logit(value, fewer_patients(truth[:, used], patients), confidence)
    interval = _widened(value, interval, luck.reach(1 / count, confidence), (0.0, 1.0))
    return _result(value, interval, confidence, len(truth), unit, count, luck, 0.5, described(used))


def repeated_difference(
    labels: Any,
    scores_a: Any,
    scores_b: Any,
    patients: Any,
    luck: Luck,
    confidence: float = 0.95,
    bootstrap: int = 500,
    seed: int = 0,
) -> MetricResult:
    """Return the mean macro area of some classifiers minus that of others, on the same images and resamples.

    Args:
        labels: (N, F) of 0 and 1.
        scores_a: (S, N, F) of the first.
        scores_b: (T, N, F) of the others.
        patients: (N,) patient of each image.
        luck: of training; that of the two is independent.
        confidence: two-sided confidence, in (0, 1).
        bootstrap: resamples of patients.
        seed: root of the resamples.

    Source: paired bootstrap, Efron and Tibshirani 1993, chapter 13; put together by MOVER, Zou and Donner 2008.
    """
    truth, unit = np.asarray(labels, dtype=bool), "difference of mean areas under the ROC curve"
    used = supported(truth)
    if not used.any():
        return _nothing(used, len(truth), unit, confidence)
    a, b = (_mean(truth[:, used], np.asarray(scores, float)[..., used]) for scores in (scores_a, scores_b))

    def gap(weights: Floats) -> Floats:
        return a(weights) - b(weights)

    value = evaluate(gap, len(truth))
    interval = resample(gap, patients, repetitions=bootstrap, seed=seed).percentile(confidence)
    reach = luck.reach(1 / len(scores_a) + 1 / len(scores_b), confidence)
    interval = _widened(value, interval, reach, (-1.0, 1.0))
    return _result(value, interval, confidence, len(truth), unit, len(scores_a), luck, 0.0, described(used))


def _mean(truth: NDArray[np.bool_], scores: Floats) -> WeightedStatistic:
    areas = [mean_area(truth, own) for own in scores]
    return lambda weights: np.mean([area(weights) for area in areas], axis=0)


def _widened(
    value: float, interval: tuple[float, float] | None, reach: float, ends: tuple[float, float]
) -> tuple[float, float] | None:
    if interval is None:
        return None
    low, high = (float(np.hypot(value - end, reach)) for end in interval)
    return max(ends[0], value - low), min(ends[1], value + high)


def _nothing(used: NDArray[np.bool_], n: int, unit: str, confidence: float) -> MetricResult:
    why = described(used) or "no findings"
    return insufficient(why, n=n, unit=unit, confidence=confidence, reference=REFERENCE)


def _result(
    value: float,
    interval: tuple[float, float] | None,
    confidence: float,
    n: int,
    unit: str,
    trainings: int,
    luck: Luck,
    baseline: float,
    note: str | None,
) -> MetricResult:
    spread = f"standard deviation of a training {np.sqrt(luck.variance):.3g}, {luck.freedom} degrees of freedom"
    return MetricResult(
        value=value,
        interval=interval,
        confidence=confidence,
        n=n,
        unit=unit,
        estimator=f"mean of {trainings} trainings; resampled patients and the luck of training, by MOVER; {spread}",
        baseline=baseline,
        reference=REFERENCE,
        note=note,
    )
