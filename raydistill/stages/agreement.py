"""Does the probe, by which the search goes, rank settings as networks do? Asked of some that are drawn by chance.

The candidates can't tell: they are the probe's best, if there are any, and between those it hardly makes a difference.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau, norm

from raydistill.core.seeds import generator
from raydistill.metrics.result import MetricResult, insufficient
from raydistill.stages.rungs import distinct

FEWEST = 5
"""Settings whose order can be compared: of fewer the error below has no end."""

REFERENCE = "Kendall 1938; Fieller, Hartley and Pearson 1957"


def drawn(table: pd.DataFrame, kept: Callable[[int], NDArray[np.bool_]], count: int, seed: int) -> list[int]:
    """Draw rows of settings that the probe ranked, whether they keep their bounds or not: nothing is chosen by them.

    By chance, and not evenly from the best to the worst: those lie further apart than two of all do, and are ranked
    alike more often.

    Args:
        table: trials, with `utility`.
        kept: says which samples a row's setting keeps; of those that keep the same one is taken.
        count: rows, at most; none where fewer than `FEWEST` differ.
        seed: of the draw.
    """
    rows = distinct(table.index[table["utility"].notna()], kept)
    few = min(count, len(rows)) < FEWEST
    return [] if few else sorted(generator(seed, "agreement").permutation(rows)[:count].tolist())


def rank_agreement(table: pd.DataFrame, confidence: float) -> MetricResult:
    """Return how far probe and network rank the settings alike that were drawn.

    Args:
        table: with `utility`, and `agreement_utility`, a network's.
        confidence: two-sided confidence, in (0, 1).

    Source: tau-b, Kendall 1938; its Fisher transform has a variance of about 0.437 / (n - 4), Fieller, Hartley and
    Pearson 1957, Biometrika 44:470. One pair in doubt, where all agree, keeps it finite.
    """
    both = table[["utility", "agreement_utility"]].dropna()
    unit, count = "Kendall's tau of probe and network", len(both)
    if count < FEWEST or both["utility"].nunique() < 2 or both["agreement_utility"].nunique() < 2:
        why = f"{count} settings were looked at by both; {FEWEST} that differ are needed"
        return insufficient(why, n=count, unit=unit, confidence=confidence, reference=REFERENCE)
    tau = float(kendalltau(both["utility"], both["agreement_utility"]).statistic)
    inside = 1 - 2 / (count * (count - 1))
    reach = norm.ppf(0.5 + confidence / 2) * np.sqrt(0.437 / (count - 4))
    low, high = np.tanh(np.arctanh(np.clip(tau, -inside, inside)) + np.array([-reach, reach]))
    return MetricResult(
        value=tau,
        interval=(min(tau, float(low)), max(tau, float(high))),
        n=count,
        unit=unit,
        estimator="tau-b over settings drawn by chance from those tried, one network each; Fisher's z",
        confidence=confidence,
        baseline=0.0,
        reference=REFERENCE,
        note=f"of {count} settings; what is chance in either makes it smaller",
    )
