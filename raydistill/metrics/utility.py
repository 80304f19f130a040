"""Utility: can findings be learned from these images as well as from real ones? Tested on real evaluation images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.metrics.bootstrap import Floats, WeightedStatistic, evaluate, resample, weighted_auc
from raydistill.metrics.result import MetricResult, insufficient

LEAST_PATIENTS = 5
"""People with a finding, and without it, that the test set needs; of fewer no interval held what it should."""

REFERENCE = "Hanley and McNeil 1982; trained on one set and tested on real, Esteban et al. 2017"


def macro_auroc(
    labels: Any,
    scores: Any,
    patients: Any,
    confidence: float = 0.95,
    bootstrap: int = 500,
    seed: int = 0,
) -> MetricResult:
    """Return the mean area under the ROC curve over findings, with a patient-resampled interval.

    Args:
        labels: (N, F) of 0 and 1, real evaluation images.
        scores: (N, F), higher means likelier; or (S, N, F) of several classifiers, whose areas are averaged.
        patients: (N,) patient of each image.
        confidence: two-sided confidence, in (0, 1).
        bootstrap: resamples of patients.
        seed: root of the resamples; equal for everything to be compared.

    Returns:
        The mean over findings that at least `LEAST_PATIENTS` people have, and as many haven't; the note says how many
        others there are, not which: a rare finding can point at a person, and results travel far. `repeated.by_finding`
        names them.

    Source: Hanley and McNeil 1982, Radiology 143:29; train on synthetic and test on real, Esteban et al. 2017 (arXiv
    1706.02633).
    """
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=float)
    used = supported(truth, patients)
    unit, note = "mean area under the ROC curve over findings", described(used)
    if not used.any():
        return insufficient(note or "no findings", n=len(truth), unit=unit, confidence=confidence, reference=REFERENCE)
    areas = mean_area(truth[:, used], values[..., used])
    value = evaluate(areas, len(truth))
    spread = resample(areas, patients, repetitions=bootstrap, seed=seed)
    return MetricResult(
        value=value,
        interval=spread.logit(value, worth(truth[:, used], patients), confidence),
        confidence=confidence,
        n=len(truth),
        unit=unit,
        estimator=_how("logit", bootstrap, spread.num_clusters, confidence),
        baseline=0.5,
        reference=REFERENCE,
        note=note,
    )


def without_labels(n: int, confidence: float = 0.95) -> dict[str, MetricResult]:
    """Return `utility_auroc` and `utility_loss` where there is nothing to be learned or tested.

    Args:
        n: test images there were.
        confidence: confidence the intervals would have had.
    """
    why = "no image with known labels, or no finding that enough train patients have"
    unit = "mean area under the ROC curve over findings"
    missing = insufficient(why, n=n, unit=unit, confidence=confidence, reference=REFERENCE)
    return {"utility_auroc": missing, "utility_loss": missing}


def paired_difference(
    labels: Any,
    scores_a: Any,
    scores_b: Any,
    patients: Any,
    confidence: float = 0.95,
    bootstrap: int = 500,
    seed: int = 0,
) -> MetricResult:
    """Return the macro area of one classifier minus that of another on the same images and the same resamples.

    Args:
        labels: (N, F) of 0 and 1.
        scores_a: (N, F) of the first classifier, such as the one trained on real images; or of several, (S, N, F).
        scores_b: (N, F) of the second, or of several.
        patients: (N,) patient of each image.
        confidence: two-sided confidence, in (0, 1).
        bootstrap: resamples of patients.
        seed: root of the resamples.

    Source: paired bootstrap, Efron and Tibshirani 1993, chapter 13; the t quantile of the scarcer side's patients, as
    for `macro_auroc`: percentiles can't reach further than the few people who were drawn.
    """
    truth, unit = np.asarray(labels, dtype=bool), "difference of mean areas under the ROC curve"
    used = supported(truth, patients)
    note = described(used)
    if not used.any():
        return insufficient(note or "no findings", n=len(truth), unit=unit, confidence=confidence, reference=REFERENCE)
    a, b = (mean_area(truth[:, used], np.asarray(scores, dtype=float)[..., used]) for scores in (scores_a, scores_b))

    def gap(weights: Floats) -> Floats:
        return a(weights) - b(weights)

    value, spread = evaluate(gap, len(truth)), resample(gap, patients, repetitions=bootstrap, seed=seed)
    interval = spread.student(value, worth(truth[:, used], patients), confidence)
    # Two perfect classifiers may differ in other people; one and the same can't.
    interval = (0.0, 0.0) if np.array_equal(scores_a, scores_b) else within(interval, -1.0, 1.0)
    return MetricResult(
        value=value,
        interval=interval,
        confidence=confidence,
        n=len(truth),
        unit=unit,
        estimator=_how("Student's t", bootstrap, spread.num_clusters, confidence),
        baseline=0.0,
        reference=REFERENCE,
        note=note,
    )


def supported(truth: NDArray[np.bool_], patients: Any) -> NDArray[np.bool_]:
    """Say which findings (N, F) enough patients have, and enough haven't, to be measured."""
    return np.asarray(scarcer_side(truth, patients) >= LEAST_PATIENTS)


def described(used: NDArray[np.bool_]) -> str | None:
    """Say how many findings aren't measured; not which."""
    rare = f"fewer than {LEAST_PATIENTS} patients with it or without it"
    return None if used.all() else f"{rare} in {int((~used).sum())} of {len(used)} findings"


def mean_area(truth: NDArray[np.bool_], scores: Floats) -> WeightedStatistic:
    """Return the mean area over findings, of `truth` (N, F) and `scores` (N, F) or (S, N, F), as one to bootstrap."""
    each = scores.reshape(-1, *truth.shape)
    areas = [weighted_auc(hit, column) for own in each for hit, column in zip(truth.T, own.T, strict=True)]

    def mean(weights: Floats) -> Floats:
        columns = np.stack([area(weights) for area in areas])
        known = ~np.isnan(columns)
        total, count = np.where(known, columns, 0.0).sum(axis=0), known.sum(axis=0)
        return np.asarray(np.divide(total, count, out=np.full(len(weights), np.nan), where=count > 0))

    return mean


def scarcer_side(truth: NDArray[np.bool_], patients: Any) -> NDArray[np.int64]:
    """Return, of findings (N, F), how many patients have each or how many haven't, whichever are fewer: (F,)."""
    people = np.asarray(patients)
    return np.array([min(len(np.unique(people[side])) for side in (hit, ~hit)) for hit in truth.T], dtype=np.int64)


def worth(truth: NDArray[np.bool_], patients: Any) -> float:
    """Return how many patients the mean area over findings (N, F) rests on, each of which some have and some haven't.

    With n patients on a finding's scarcer side the variance of its area goes with 1 / n. By these shares of the whole
    the findings are weighted, in the harmonic mean of their n: a rare one counts, for most of the error is its own.
    """
    shares = 1 / scarcer_side(truth, patients)
    return float(shares.sum() / np.square(shares).sum())


def within(interval: tuple[float, float] | None, low: float, high: float) -> tuple[float, float] | None:
    """Return an interval cut at the least and the most that can be."""
    return interval and (max(low, interval[0]), min(high, interval[1]))


def _how(kind: str, bootstrap: int, patients: int, confidence: float) -> str:
    resamples = f"{bootstrap} resamples of {patients} patients"
    return f"patient-clustered bootstrap ({resamples}), {kind} interval at {100 * confidence:g} %"
