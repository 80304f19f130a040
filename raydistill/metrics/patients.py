"""How many patients are hit again and again, beside how many chance would hit: counts by patient on two galleries.

A rate over all samples can hide a few patients who are reproduced many times. Chance hits some patients often too,
for some look more average than others; how many is seen on a gallery of people nobody trained on.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from raydistill.metrics.intervals import exact_rate, independent_difference
from raydistill.metrics.result import MetricResult, insufficient

Counts = NDArray[np.int64]

HIT_TIMES = (1, 2, 5, 10)
"""Numbers of hits from which on patients are counted."""

EXCESS, CERTAIN = "patients_hit_excess", 0.99
"""What a verdict asks, and how sure it must be: a test in a hundred is wrong where nobody is memorised."""


def hits_by_patient(flagged: Any, patients: Any, size: int) -> Counts:
    """Count the hits on each patient of a gallery, those without any too.

    Args:
        flagged: (N,) bool, whether the sample is a hit.
        patients: (N,) whom it is nearest to.
        size: patients P of the gallery.

    Returns:
        (P,) int64, in no order.
    """
    hit = np.unique(np.asarray(patients, dtype=str)[np.asarray(flagged, dtype=bool)], return_counts=True)[1]
    return np.pad(hit, (0, size - len(hit))).astype(np.int64)


def patients_hit(parts: Sequence[tuple[Counts, Counts]], confidence: float = 0.95) -> dict[str, MetricResult]:
    """Return the share of train patients who are hit so many times or more, beside that of unseen ones.

    Without memorisation the two galleries' patients are exchangeable, and Fisher's test of each number of hits holds
    its level exactly; Holm's correction is for looking at several. Of several parts of the galleries the middle one is
    told, and twice the median of their p-values is one, whatever they have in common. No test can tell that one
    patient among many is hit too often by chance: as far as the unseen patients show, that happens to one in their
    number.

    Args:
        parts: of the galleries, hits (P,) on each train patient of a part and (U,) of the same samples on each patient
            of an unseen part, made as the other.
        confidence: two-sided confidence of the intervals, in (0, 1).

    Returns:
        `patients_hit_<k>` for each of `HIT_TIMES`; `control` is the unseen patients' share, the note the p-value. And
        `patients_hit_excess`, the difference of the two shares at the number of hits where it is most certain.

    Source: Fisher 1935; Holm 1979, Scandinavian Journal of Statistics 6:65; twice the median, Rueschendorf 1982,
    Advances in Applied Probability 14:623; interval, Clopper and Pearson 1934; of the difference, Newcombe 1998 (method
    10, on exact limits), with Bonferroni's correction.
    """
    names, unit = [*(f"patients_hit_{k}" for k in HIT_TIMES), EXCESS], "share of train patients"
    if not parts or not all(len(counts) for pair in parts for counts in pair):
        people = [len(counts) for counts in parts[0]] if parts else [0, 0]
        why = f"{people[0]} train and {people[1]} unseen patients to compare"
        return dict.fromkeys(names, insufficient(why, n=people[0], unit=unit, confidence=confidence))
    p_values = holm([_together(parts, k) for k in HIT_TIMES])
    results, middle = {}, _middle(parts)
    for name, k, p_value in zip(names, HIT_TIMES, p_values, strict=False):
        hits, unseen = middle
        rate, control = exact_rate(int((hits >= k).sum()), len(hits), confidence), float((unseen >= k).mean())
        results[name] = MetricResult(
            value=rate.value,
            interval=(rate.low, rate.high),
            confidence=confidence,
            n=len(hits),
            unit=unit,
            estimator=f"exact interval at {100 * confidence:g} %; one-sided Fisher test, Holm's correction",
            control=control,
            reference="Fisher 1935; Holm 1979",
            note=f"hit at least {k} time{'s' * (k > 1)}: {round(rate.value * len(hits))} patients, by chance "
            f"{control * len(hits):.1f}; adjusted p {p_value:.2g}; most on one {hits.max()}, unseen {unseen.max()}; "
            f"the middle one of {len(parts)} parts",
        )
    return results | {EXCESS: _excess(parts)}


def _excess(parts: Sequence[tuple[Counts, Counts]]) -> MetricResult:
    """Return the most certain difference of the two galleries' shares of patients who are hit so many times."""
    level = 1 - (1 - CERTAIN) / len(HIT_TIMES) / (2 if len(parts) > 1 else 1)
    found = []
    for k in HIT_TIMES:
        # The part with the middle lower limit, and at half the level: as with twice the median of p-values.
        middle = sorted(_difference(hits, unseen, k, level) for hits, unseen in parts)[(len(parts) - 1) // 2]
        found.append((*middle, k))
    low, value, high, k = max(found)
    hits, unseen = parts[0]
    return MetricResult(
        value=value,
        interval=(low, high),
        confidence=CERTAIN,
        n=len(hits),
        unit="difference of shares of patients",
        estimator=f"Newcombe interval on exact limits at {100 * CERTAIN:g} %, corrected for {len(HIT_TIMES)} looks; "
        f"the middle one of {len(parts)} parts of the galleries",
        baseline=0.0,
        reference="Newcombe 1998; Rueschendorf 1982",
        note=f"patients hit at least {k} time{'s' * (k > 1)}, of {len(hits)} train and {len(unseen)} unseen ones; "
        f"fewer than {fewest_provable(len(hits), len(unseen), level)} can't be told from chance",
    )


def _middle(parts: Sequence[tuple[Counts, Counts]]) -> tuple[Counts, Counts]:
    """Return the part with the middle difference of hits a patient."""
    differences = [hits.mean() - unseen.mean() for hits, unseen in parts]
    return parts[int(np.argsort(differences, kind="stable")[(len(parts) - 1) // 2])]


@cache
def fewest_provable(size: int, control_size: int, level: float) -> int:
    """Return how many of so many patients must be hit often, and no unseen one, for that to be more than chance."""
    nobody = exact_rate(0, control_size, level)
    for count in range(1, size + 1):
        rate = exact_rate(count, size, level)
        beyond = independent_difference(rate.value, (rate.low, rate.high), 0.0, (nobody.low, nobody.high))
        if beyond[1] > 0:
            return count
    return size


def _difference(hits: Counts, unseen: Counts, k: int, confidence: float) -> tuple[float, float, float]:
    """Return lower limit, value and upper limit of the difference of shares that are hit k times."""
    mine, theirs = (exact_rate(int((counts >= k).sum()), len(counts), confidence) for counts in (hits, unseen))
    value, low, high = independent_difference(
        mine.value, (mine.low, mine.high), theirs.value, (theirs.low, theirs.high)
    )
    return low, value, high


def _together(parts: Sequence[tuple[Counts, Counts]], k: int) -> float:
    """Return one p-value of Fisher's test on several parts that may have patients in common."""
    found = sorted(fisher(int((a >= k).sum()), len(a), int((b >= k).sum()), len(b)) for a, b in parts)
    return found[0] if len(found) == 1 else min(1.0, 2 * found[len(found) // 2])


def fisher(hit: int, size: int, control_hit: int, control_size: int) -> float:
    """Return the one-sided p-value of Fisher's exact test that the first share isn't larger."""
    return float(stats.hypergeom.sf(hit - 1, size + control_size, hit + control_hit, size))


def holm(p_values: list[float]) -> list[float]:
    """Return p-values corrected for their number, in the same order."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(value) for value in corrected]
