"""How far two measures rank the same things alike."""

from typing import Any

import numpy as np
from scipy import stats

from raydistill.metrics.result import MetricResult, insufficient

FEWEST = 5
"""Things whose order can be compared: of fewer, intervals of Kendall's tau didn't hold it."""

REFERENCE = "Kendall 1938; Long and Cliff 1997"


def rank_correlation(first: Any, second: Any, unit: str, confidence: float = 0.95) -> MetricResult:
    """Return Kendall's tau-b of two measures of the same n things, which stand for others drawn like them.

    Args:
        first: (n,) finite.
        second: (n,) finite.
        unit: what is compared.
        confidence: two-sided confidence, in (0, 1).

    Source: Kendall 1938, Biometrika 30:81; interval, Long and Cliff 1997, British Journal of Mathematical and
    Statistical Psychology 50:31, with the t quantile of n - 2; where all pairs agree, and so tell nothing of how much
    they vary, by the most that tau can vary, 2 (1 - tau^2) / n, Kendall and Gibbons 1990, section 5.
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    n = len(x)
    if n < FEWEST or min(len(np.unique(x)), len(np.unique(y))) < 2:
        why = f"{n} were measured both ways; {FEWEST} that differ are needed"
        return insufficient(why, n=n, unit=unit, confidence=confidence, reference=REFERENCE)
    tau = float(np.clip(stats.kendalltau(x, y).statistic, -1, 1))
    quantile = float(stats.t.ppf(0.5 + confidence / 2, n - 2))
    reach, left = quantile**2 * _variance(x, y), 1 - tau**2
    if left < 1e-9:
        end = max(-1.0, (1 - 2 * quantile**2 / n) / (1 + 2 * quantile**2 / n))
        interval = (end, 1.0) if tau > 0 else (-1.0, -end)
    else:
        half = np.sqrt(reach * (left**2 + reach))
        low, high = (float((tau * left + side) / (left + reach)) for side in (-half, half))
        interval = max(-1.0, low), min(1.0, high)
    return MetricResult(
        value=tau,
        interval=interval,
        confidence=confidence,
        n=n,
        unit=unit,
        estimator="tau-b, Long-Cliff interval",
        baseline=0.0,
        reference=REFERENCE,
    )


def _variance(x: Any, y: Any) -> float:
    """Return the variance of tau over draws of n things."""
    n, pairs = len(x), np.ones((len(x), len(x))) - np.eye(len(x))
    signs = [np.sign(column[:, None] - column) for column in (x, y)]
    ties = np.sqrt(np.prod([np.square(sign).sum() for sign in signs]))
    agreed = signs[0] * signs[1] * pairs.sum() / ties
    tau = agreed.sum() / pairs.sum()
    by_one = float(np.square(agreed.sum(axis=1) / (n - 1) - tau).sum() / (n - 1))
    by_pair = float((np.square(agreed).sum() - pairs.sum() * tau**2) / (pairs.sum() - 1))
    return (4 * (n - 2) * by_one + 2 * by_pair) / (n * (n - 1))
