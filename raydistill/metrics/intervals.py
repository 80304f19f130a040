"""Intervals for rates, their differences and the excess of one over another.

Images of one patient aren't independent, and neither are samples that resemble the same patient: every interval here
is told which records belong together (its *clusters*) and treats clusters, not records, as the independent units.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from raydistill.metrics.result import MetricResult, insufficient

Floats = NDArray[np.float64]

RATE_REFERENCE = "Korn and Graubard 1998"
NO_TRIAL = 1e-9
"""Fewer trials than this are rounding."""


@dataclass(frozen=True)
class Rate:
    """A mean of values in [0, 1] with its interval.

    Args:
        value: the mean.
        low: lower bound.
        high: upper bound.
        n: number of records.
        n_eff: number of independent records that would be as informative, in [1, n].
        num_clusters: number of independent clusters.
        confidence: two-sided confidence, in (0, 1).
        bounds: of which kind they are.
    """

    value: float
    low: float
    high: float
    n: int
    n_eff: float
    num_clusters: int
    confidence: float
    bounds: str = "exact"

    @property
    def zero_note(self) -> str | None:
        """State the rule of three when nothing was hit: the one-sided bound -ln(1 - confidence) / n, 3 / n at 95 %.

        Source: Hanley and Lippman-Hand 1983, JAMA 249:1743.
        """
        if self.value > 0.0:
            return None
        three = -np.log1p(-self.confidence)
        worth = f"{self.n} records worth {self.n_eff:.0f} independent ones"
        return f"no hit in {worth}: rule of three, rate below {min(1.0, three / self.n_eff):.2g}"


def exact_rate(hits: int, n: int, confidence: float = 0.95) -> Rate:
    """Return a rate of independent trials with its exact interval.

    Args:
        hits: successes, 0 to n.
        n: trials, at least 1.
        confidence: two-sided confidence, in (0, 1).

    Source: Clopper and Pearson 1934, Biometrika 26:404, as `scipy.stats.binomtest`.
    """
    interval = stats.binomtest(hits, n).proportion_ci(confidence, method="exact")
    return Rate(hits / n, float(interval.low), float(interval.high), n, float(n), n, confidence)


def korn_graubard(
    hits: Any, clusters: Any, confidence: float = 0.95, *, exact: bool = False, weights: Any = None
) -> Rate:
    """Return a rate of clustered records with a mid-P interval, or an exact one, at the effective sample size.

    The design effect is estimated with two pseudo-clusters added, one all hit and one not hit at all, as large as
    the average record's cluster. Without them it can't be estimated when few clusters are hit (with none it is 0/0),
    which is where privacy rates live; with them it then tends to the worst case, every cluster one single
    observation, and with many hit clusters they no longer matter.

    Args:
        hits: (N,) bool, or float in [0, 1] where a tie counts a half.
        clusters: (N,) which cluster each record belongs to, any hashable values.
        confidence: two-sided confidence, in (0, 1).
        exact: take Clopper-Pearson bounds, as at operating points.
        weights: (N,) positive, how much each record counts; equal without them. No more independent records than
            clusters are then claimed.

    Raises:
        ValueError: when the arrays are empty, differ in length, or leave [0, 1].

    Source: Korn and Graubard 1998, Survey Methodology 24:193 (effective size, correction of the degrees of freedom);
    the pseudo-clusters in the spirit of Agresti and Coull 1998, The American Statistician 52:119.
    """
    values, codes = _clustered(hits, clusters)
    if values.min() < 0.0 or values.max() > 1.0:
        raise ValueError("a rate is a mean of values in [0, 1]")
    count = int(codes.max()) + 1
    # Weights add up to the number of clusters, which is then what effective sizes are measured in.
    shares = None if weights is None else np.asarray(weights, dtype=float) * count / np.sum(weights)
    n_eff, mean = effective_size(values, codes, confidence, shares), float(np.average(values, weights=shares))
    low, high = fractional_interval(mean, n_eff, confidence, exact=exact) if count > 1 else (0.0, 1.0)
    kind = "exact" if exact else "mid-P"
    return Rate(mean, low, high, len(values), n_eff, count, confidence, kind)


def rate_result(rate: Rate, *, unit: str, **extra: Any) -> MetricResult:
    """Return a clustered rate as a result.

    Args:
        rate: what `korn_graubard` returned.
        unit: what the rate is a share of.
        extra: further fields of `MetricResult`, such as `control` or `note`; they win over the defaults.
    """
    if rate.num_clusters < 2:
        single = "a single cluster says nothing about others: the interval is everything"
        extra["note"] = "; ".join(filter(None, [extra.get("note"), single]))
    notes = filter(None, [extra.pop("note", None), rate.zero_note])
    clustered = (
        f"mean over records; patient-clustered Korn-Graubard interval ({rate.bounds}) at {100 * rate.confidence:g} % "
        f"({rate.num_clusters} clusters, worth {rate.n_eff:.0f} independent records)"
    )
    return MetricResult(
        value=rate.value,
        interval=(rate.low, rate.high),
        confidence=rate.confidence,
        n=rate.n,
        unit=unit,
        note="; ".join(notes) or None,
        **{"reference": RATE_REFERENCE, "estimator": clustered, **extra},
    )


def clustered_rate(
    hits: Any,
    clusters: Any,
    confidence: float = 0.95,
    *,
    unit: str = "share of records",
    exact: bool = False,
    **extra: Any,
) -> MetricResult:
    """Return the rate of clustered records as a result; insufficient when there is no record.

    Args:
        hits: (N,) bool, or float in [0, 1] where a tie counts a half.
        clusters: (N,) which cluster (patient) each record belongs to.
        confidence: two-sided confidence, in (0, 1).
        unit: what the rate is a share of.
        exact: as for `korn_graubard`.
        extra: further fields of `MetricResult`, such as `control` or `note`.
    """
    if not len(hits):
        return insufficient("there is no record", n=0, unit=unit, confidence=confidence)
    return rate_result(korn_graubard(hits, clusters, confidence, exact=exact), unit=unit, **extra)


def effective_size(values: Floats, codes: NDArray[np.int64], confidence: float, weights: Floats | None = None) -> float:
    """Return how many independent records are as informative as these clustered ones.

    Args:
        values: (N,) in [0, 1].
        codes: (N,) cluster of each record, 0 to K - 1.
        confidence: two-sided confidence of the interval to be built, in (0, 1).
        weights: (N,) how much each record counts; 1 without them.

    Returns:
        A number in [1, N], or no larger than the sum of the weights; 1 when there is a single cluster.

    Source: Korn and Graubard 1998; linearised variance of a ratio mean.
    """
    counts = np.ones(len(values)) if weights is None else weights
    sizes = np.bincount(codes, counts)
    n, count = sizes.sum(), len(sizes)
    if count < 2:
        return 1.0
    typical = (sizes**2).sum() / n
    totals = np.append(np.bincount(codes, values * counts), [typical, 0.0])
    sizes = np.append(sizes, [typical, typical])
    size, mean = sizes.sum(), totals.sum() / sizes.sum()
    variance = ((totals - mean * sizes) ** 2).sum() / size**2 * len(sizes) / (len(sizes) - 1)
    simple = mean * (1.0 - mean) / (size - 1.0)
    tail = 0.5 + confidence / 2
    freedom = (stats.t.ppf(tail, n - 1) / stats.t.ppf(tail, count - 1)) ** 2
    return float(np.clip(n * simple / variance * freedom, 1.0, n))


def paired_difference(
    first: Any, second: Any, clusters: Any, confidence: float = 0.95, scale: float = 1.0
) -> tuple[float, float, float]:
    """Return the difference of two rates measured on the same records, first minus second, with its interval.

    Args:
        first: (N,) bool, or float in [0, 1].
        second: (N,) the same records judged the other way.
        clusters: (N,) which cluster each record belongs to.
        confidence: two-sided confidence, in (0, 1).
        scale: what the second is multiplied by.

    Returns:
        The difference and its bounds, in [-scale, 1].

    Source: square-and-add with the correlation of the two rates, Newcombe 1998, Statistics in Medicine 17:2635
    (method 10); MOVER, Zou and Donner 2008, Statistics in Medicine 27:1693; here on Korn-Graubard limits.
    """
    a, b = (korn_graubard(values, clusters, confidence) for values in (first, second))
    bounds = (a.value, a.low, a.high), (b.value, b.low, b.high)
    return _difference(*bounds, _correlation(first, second, clusters), scale)


def independent_difference(
    first: float, its: tuple[float, float], second: float, others: tuple[float, float]
) -> tuple[float, float, float]:
    """Return the difference of two shares measured on different records, first minus second, with its interval.

    Args:
        first: a share.
        its: bounds of it.
        second: another share.
        others: bounds of that, at the same confidence.

    Source: MOVER, Zou and Donner 2008, Statistics in Medicine 27:1693.
    """
    return _difference((first, *its), (second, *others))


def _difference(
    first: tuple[float, float, float],
    second: tuple[float, float, float],
    correlation: float = 0.0,
    scale: float = 1.0,
) -> tuple[float, float, float]:
    """Return the difference of two shares, each with its bounds, the second scaled: value and bounds, by MOVER."""
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    down, up = (a - a_low, scale * (b_high - b)), (a_high - a, scale * (b - b_low))
    below, above = (np.sqrt(max(0.0, x * x + y * y - 2 * correlation * x * y)) for x, y in (down, up))
    value = a - scale * b
    return value, float(max(-scale, value - below)), float(min(1.0, value + above))


def excess_risk(rate: Rate, control: Rate) -> tuple[float, float, float] | None:
    """Return what a rate adds beyond its control, (rate - control) / (1 - control), with its interval.

    It is one minus the ratio of two independent survival shares, so the interval is that of a ratio.

    Args:
        rate: measured on samples.
        control: the same rate where nothing can have leaked, from other records.

    Returns:
        The excess and its bounds, at most 1, negative when the control is hit more often; None when the control
        may be hit always, where the excess isn't defined.

    Source: the quantity, Giomi et al. 2023, PoPETs 2023(2):312; the interval, `mover_ratio`.
    """
    if control.high >= 1.0:
        return None
    missed, base = (replace(one, value=1 - one.value, low=1 - one.high, high=1 - one.low) for one in (rate, control))
    value, smallest, largest = mover_ratio(missed, base)
    return 1 - value, 1 - largest, 1 - smallest


def mover_ratio(rate: Rate, base: Rate) -> tuple[float, float, float]:
    """Return the ratio of two independent rates and its bounds; the upper one is infinite where the base may be 0.

    Args:
        rate: above the line.
        base: below it, with a value above 0.

    Source: MOVER-R, Donner and Zou 2012, Statistical Methods in Medical Research 21:347, in a rationalised form without
    singularities.
    """
    product = rate.value * base.value
    x, y = rate.low * (2 * rate.value - rate.low), base.high * (2 * base.value - base.high)
    low = x / (product + np.sqrt(max(0.0, product**2 - x * y))) if x > 0.0 else 0.0
    u, v = rate.high * (2 * rate.value - rate.high), base.low * (2 * base.value - base.low)
    high = (product + np.sqrt(max(0.0, product**2 - u * v))) / v if v > 0.0 else float("inf")
    return rate.value / base.value, float(low), float(high)


def trials_worth(value: float, high: float, confidence: float) -> float:
    """Return of how many independent trials a rate of this value has this upper bound, 1 at least, by mid-P."""
    most = 1e9

    def over(log_trials: float) -> float:
        return fractional_interval(value, float(np.exp(log_trials)), confidence)[1] - high

    ends = 0.0, float(np.log(most))
    if over(ends[0]) <= 0.0:
        return 1.0
    return most if over(ends[1]) >= 0.0 else float(np.exp(optimize.brentq(over, *ends)))


def fractional_interval(value: float, n: float, confidence: float, *, exact: bool = False) -> tuple[float, float]:
    """Return the mid-P bounds of a rate over trials that needn't be whole, or the exact ones.

    A bound is where what was seen, counted half, and all beyond it are as improbable as the tail. Without a hit the
    upper one is the rule of three: no lower bound is needed there, and the whole error lies above. Exact bounds count
    what was seen in full, and near 0 and 1 hold the truth much oftener than they say.

    Args:
        value: the rate, in [0, 1].
        n: trials, as many as the records are worth.
        confidence: two-sided confidence, in (0, 1).
        exact: count what was seen in full, as Clopper and Pearson 1934.

    Source: Lancaster 1961, JASA 56:223; Berry and Armitage 1995, The Statistician 44:417.
    """
    hits, tail = value * n, (1 - confidence) / 2
    none, all_hit = hits < NO_TRIAL, n - hits < NO_TRIAL

    def at_least(p: float) -> float:
        return 1.0 if none else float(special.betainc(hits, n - hits + 1, p))

    def more(p: float) -> float:
        return 0.0 if all_hit else float(special.betainc(hits + 1, n - hits, p))

    def middle(p: float) -> float:
        return (at_least(p) + more(p)) / 2

    below, above = (at_least, more) if exact else (middle, middle)
    low = 0.0 if none else optimize.brentq(lambda p: below(p) - tail, 0.0, 1.0, xtol=1e-12)
    high = 1.0 if all_hit else optimize.brentq(lambda p: above(p) - (1 - tail), 0.0, 1.0, xtol=1e-12)
    return float(low), float(high)


def _clustered(values: Any, clusters: Any) -> tuple[Floats, NDArray[np.int64]]:
    column = np.asarray(values, dtype=float)
    names = np.asarray(clusters)
    if column.ndim != 1 or column.shape != names.shape or not len(column):
        raise ValueError(f"need one cluster per record and a record: values {column.shape}, clusters {names.shape}")
    return column, np.unique(names, return_inverse=True)[1]


def _correlation(first: Any, second: Any, clusters: Any) -> float:
    a, codes = _clustered(first, clusters)
    b, _ = _clustered(second, clusters)
    x, y = (np.bincount(codes, values - values.mean()) for values in (a, b))
    spread = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / spread) if spread > 0 else 0.0
