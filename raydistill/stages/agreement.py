"""Does the probe, by which the search goes, rank settings as networks do? Asked of some that are drawn by chance.

The candidates can't tell: they are the probe's best, if there are any, and between those it hardly makes a difference.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raydistill.core.seeds import generator
from raydistill.metrics.ranking import FEWEST, rank_correlation
from raydistill.metrics.result import MetricResult
from raydistill.stages.rungs import distinct


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
    """
    both = table[["utility", "agreement_utility"]].dropna()
    unit = "Kendall's tau of probe and network"
    found = rank_correlation(both["utility"], both["agreement_utility"], unit, confidence)
    if found.value is None:
        return found
    return found.with_note(
        f"of {len(both)} settings drawn by chance, one network each; chance in either makes it smaller"
    )
