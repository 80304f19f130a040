"""Intervals for anything that patients can be resampled for: means, areas under the curve, their differences."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit

from raydistill.core.seeds import generator
from raydistill.metrics.intervals import fractional_interval

Floats = NDArray[np.float64]
WeightedStatistic = Callable[[Floats], Floats]
"""From record weights (B, N), counts of how often a resample drew each record, to one statistic a resample (B,)."""

MAX_WEIGHTS = 4_000_000
"""Weights held at once; bounds memory, never changes a result."""


@dataclass(frozen=True)
class Resamples:
    """A statistic over resampled patients.

    Args:
        values: (B,) one value a resample, NaN where a resample can't support it.
        num_clusters: number of patients resampled.
    """

    values: Floats
    num_clusters: int

    def percentile(self, confidence: float) -> tuple[float, float] | None:
        """Return the expanded percentile interval; None with fewer than two clusters or no supported resample.

        For statistics without an edge, such as differences.

        Source: Efron and Tibshirani 1993, chapter 13; levels widened for few clusters as in Hesterberg 2015, The
        American Statistician 69:371, section 5.3.
        """
        if not self._usable:
            return None
        count = self.num_clusters
        level = stats.norm.cdf(np.sqrt(count / (count - 1)) * stats.t.ppf((1 - confidence) / 2, count - 1))
        low, high = np.nanquantile(self.values, [level, 1 - level])
        return float(low), float(high)

    def student(self, value: float, units: float, confidence: float) -> tuple[float, float] | None:
        """Return a symmetric interval around a statistic that rests on few patients; None where none can be had.

        Where no resample differs from another, it reaches as far as `units` trials that all went alike leave open.

        Args:
            value: the statistic on all records, at most 1 from any other value that it may have.
            units: independent units behind it, which decide the t quantile.
            confidence: two-sided confidence, in (0, 1).

        Source: Student's t interval with a resampled error, Efron and Tibshirani 1993, chapter 12; with the degrees of
        freedom of few clusters, Donald and Lang 2007, Review of Economics and Statistics 89:221.
        """
        if not self._usable or units < 2:
            return None
        error = float(np.nanstd(self.values, ddof=1))
        reach = float(stats.t.ppf(0.5 + confidence / 2, units - 1) * error)
        if error == 0.0:
            reach = 1 - fractional_interval(1.0, units, confidence, exact=True)[0]
        return value - reach, value + reach

    def logit(self, value: float, units: float, confidence: float) -> tuple[float, float] | None:
        """Return an interval inside [0, 1] around a share or an area: symmetric on the logit scale.

        Percentiles can't leave the edge once every resample sits on it and cover too rarely close to it. At 0 or 1
        itself the interval is the exact one of `units` independent trials.

        Args:
            value: the statistic on all records, in [0, 1].
            units: independent units behind it, for an area the fewer of positive and negative patients; also decides
                the t quantile.
            confidence: two-sided confidence, in (0, 1).

        Source: logit interval with a resampled standard error, Pepe 2003, The Statistical Evaluation of Medical
        Tests, section 5.2; compared for areas by Qin and Hotilovac 2008, Statistical Methods in Medical
        Research 17:207.
        """
        if not self._usable or units < 2:
            return None
        error = float(np.nanstd(self.values, ddof=1))
        if value in (0.0, 1.0) or error == 0.0:
            return fractional_interval(value, units, confidence, exact=True)
        reach = stats.t.ppf(0.5 + confidence / 2, units - 1) * error / (value * (1 - value))
        low, high = expit(logit(value) + np.array([-reach, reach]))
        return float(low), float(high)

    @property
    def _usable(self) -> bool:
        return self.num_clusters > 1 and int((~np.isnan(self.values)).sum()) > 1


def resample(statistic: WeightedStatistic, clusters: Any, *, repetitions: int = 500, seed: int = 0) -> Resamples:
    """Resample whole clusters with replacement and evaluate a statistic on each resample.

    Args:
        statistic: from record weights to values; NaN where a resample can't support it.
        clusters: (N,) which cluster (patient) each record belongs to; at least one record.
        repetitions: number of resamples B.
        seed: root of the resamples; the same seed gives the same resamples, whatever the statistic.
    """
    codes = np.unique(np.asarray(clusters), return_inverse=True)[1]
    count = int(codes.max()) + 1
    draws = generator(seed, "bootstrap").multinomial(count, np.full(count, 1 / count), size=repetitions)
    chunks = np.array_split(draws, max(1, repetitions * len(codes) // MAX_WEIGHTS))
    values = np.concatenate([statistic(chunk[:, codes].astype(float)) for chunk in chunks])
    return Resamples(values, count)


def evaluate(statistic: WeightedStatistic, n: int) -> float:
    """Return a statistic of the N records as they are."""
    return float(statistic(np.ones((1, n)))[0])


def weighted_mean(values: Any) -> WeightedStatistic:
    """Return the mean of `values` (N,) as a statistic to bootstrap."""
    column = np.asarray(values, dtype=float)
    return lambda weights: weights @ column / weights.sum(axis=1)


def weighted_auc(positive: Any, scores: Any) -> WeightedStatistic:
    """Return the area under the ROC curve as a statistic to bootstrap; ties count a half.

    Args:
        positive: (N,) bool.
        scores: (N,) higher means positive.

    Returns:
        A function from weights (B, N) to areas (B,) in [0, 1], NaN where a resample lacks positives or negatives.

    Source: Hanley and McNeil 1982, Radiology 143:29 (the area as the Mann-Whitney statistic).
    """
    order = np.argsort(scores, kind="stable")
    ranked, hit = np.asarray(scores)[order], np.asarray(positive, dtype=bool)[order]
    ties = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))

    def area(weights: Floats) -> Floats:
        sorted_weights = weights[:, order]
        pos, neg = (np.add.reduceat(sorted_weights * side, ties, axis=1) for side in (hit, ~hit))
        below = np.cumsum(neg, axis=1) - neg / 2
        pairs = pos.sum(axis=1) * neg.sum(axis=1)
        areas: Floats = np.divide((pos * below).sum(axis=1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
        return areas

    return area
