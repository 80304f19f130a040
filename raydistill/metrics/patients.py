"""How many patients are hit again and again, beside how many chance would hit: counts by patient on two galleries.

A rate over all samples can hide a few patients who are reproduced many times. Chance hits some patients often too,
for some look more average than others; how many is seen on a gallery of people nobody trained on.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from raydistill.metrics.intervals import exact_rate
from raydistill.metrics.result import MetricResult, insufficient

Counts = NDArray[np.int64]

HIT_TIMES = (1, 2, 5, 10)
"""Numbers of hits from which on patients are counted."""


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


def patients_hit(hits: Counts, unseen: Counts, confidence: float = 0.95) -> dict[str, MetricResult]:
    """Return the share of train patients who are hit so many times or more, beside that of unseen ones.

    Without memorisation the two galleries' patients are exchangeable, and Fisher's test of each number of hits holds
    its level exactly; Holm's correction is for looking at several. No test can tell that one patient among many is hit
    too often by chance: as far as the unseen patients show, that happens to one in their number.

    Args:
        hits: (P,) hits on each train patient.
        unseen: (U,) hits of the same samples on each patient of an unseen gallery, made as the other.
        confidence: two-sided confidence of the intervals, in (0, 1).

    Returns:
        `patients_hit_<k>` for each of `HIT_TIMES`; `control` is the unseen patients' share, the note the p-value.

    Source: Fisher 1935; Holm 1979, Scandinavian Journal of Statistics 6:65; interval, Clopper and Pearson 1934.
    """
    names, unit = [f"patients_hit_{k}" for k in HIT_TIMES], "share of train patients"
    if not len(hits) or not len(unseen):
        why = f"{len(hits)} train and {len(unseen)} unseen patients to compare"
        return dict.fromkeys(names, insufficient(why, n=len(hits), unit=unit, confidence=confidence))
    often = [(int((hits >= k).sum()), int((unseen >= k).sum())) for k in HIT_TIMES]
    p_values = holm([fisher(mine, len(hits), theirs, len(unseen)) for mine, theirs in often])
    results = {}
    for name, k, p_value in zip(names, HIT_TIMES, p_values, strict=True):
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
            f"{control * len(hits):.1f}; adjusted p {p_value:.2g}; most on one {hits.max()}, unseen {unseen.max()}",
        )
    return results


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
