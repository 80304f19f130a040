"""Pictures that are nearly a gallery image: how many beyond what strangers show, and how many are certainly copies."""

from typing import Any

import numpy as np

from raydistill.metrics.identification import NO_SAMPLES, SAMPLES, rates
from raydistill.metrics.intervals import exact_rate, paired_difference, rate_result
from raydistill.metrics.likeness import Likeness
from raydistill.metrics.result import MetricResult, insufficient


def near_copy_rates(
    structure_scores: Any,
    sample_clusters: Any,
    control_scores: Any,
    control_clusters: Any,
    threshold: float,
    confidence: float = 0.95,
    likeness: Likeness | None = None,
) -> dict[str, MetricResult]:
    """Return the share of samples that are structurally almost a gallery image, and what of it is beyond chance.

    Copies of one person's pictures are one piece of evidence. What is no copy is one by itself: samples are independent
    draws of one model, and that many of them lie near a picture that much resembles makes none of them another's.

    Args:
        structure_scores: (N,) maximum of the near-copy measure over the gallery, in [-1, 1].
        sample_clusters: (N,) the patient of that gallery image.
        control_scores: (M,) the same measure of unseen real images.
        control_clusters: (M,) the patient of each of those.
        threshold: at or above it an image is a near-copy.
        confidence: two-sided confidence, in (0, 1).
        likeness: as for `identification.rates`.

    Returns:
        `near_copy_rate`, `near_copy_excess`, and of real images `near_copy_control_rate`.
    """
    scores, patients = np.asarray(structure_scores), np.unique(sample_clusters, return_inverse=True)[1]
    clusters = np.where(scores >= threshold, patients, len(scores) + np.arange(len(scores)))
    found = rates(scores, clusters, control_scores, control_clusters, threshold, confidence, likeness)
    names = {"rate": "reidentification_rate", "excess": "excess_risk", "control_rate": "control_rate"}
    return {f"near_copy_{name}": found[theirs] for name, theirs in names.items()}


def certain_rates(
    name: str, scores: Any, unseen_scores: Any, threshold: float, sizes: tuple[int, int], confidence: float = 0.95
) -> dict[str, MetricResult]:
    """Return the share of samples twice as near to a gallery image as any stranger's is, and what chance explains.

    Chance doesn't get there (`calibration.certain_threshold`), and where no sample is as near to an unseen gallery, a
    single copy is certain. Should a model's pictures be so much alike that some are, those hits, scaled to the size of
    this gallery, are what chance explains. Samples are independent draws of one model, so no sample is clustered with
    another here: the claim is about this model.

    Args:
        name: of what is certain: `copied` by the near-copy measure, `identified` by a network.
        scores: (N,) maximum of the measure over the gallery, in [-1, 1].
        unseen_scores: (N,) the same samples' maximum over a gallery of people the model never saw.
        threshold: at or above it a sample is certain.
        sizes: images in the gallery and in the unseen one.
        confidence: two-sided confidence, in (0, 1).

    Returns:
        `<name>_rate`, exact; `<name>_excess`, exact too unless the unseen gallery is hit.

    Source: Clopper and Pearson 1934; the difference as in `paired_difference`.
    """
    names, n = (f"{name}_rate", f"{name}_excess"), len(scores)
    if not n or not all(sizes):
        return dict.fromkeys(names, insufficient(NO_SAMPLES, n=n, unit=SAMPLES, confidence=confidence))
    ours, theirs = (np.asarray(values) >= threshold for values in (scores, unseen_scores))
    scale, rate = sizes[0] / sizes[1], exact_rate(int(ours.sum()), n, confidence)
    chance = scale * float(theirs.mean())
    where = f"threshold {threshold:.4g}"
    exact = f"exact interval at {100 * confidence:g} %, samples independent"
    value, low, high, how = rate.value, rate.low, rate.high, f"{exact}; no sample is as near to an unseen gallery"
    if theirs.any():
        value, low, high = paired_difference(ours, theirs, np.arange(n), confidence, scale)
        how = f"paired difference to an unseen gallery, scaled by {scale:.3g}; MOVER on mid-P limits"
    return {
        names[0]: rate_result(
            rate, unit=SAMPLES, control=chance, estimator=exact, reference="Clopper and Pearson 1934", note=where
        ),
        names[1]: MetricResult(
            value=value,
            interval=(low, high),
            confidence=confidence,
            n=n,
            unit="share of samples beyond chance",
            estimator=how,
            control=chance,
            baseline=0.0,
            reference="Clopper and Pearson 1934; Newcombe 1998",
            note=f"{where}; {int(ours.sum())} samples reach it for the gallery, {int(theirs.sum())} for the unseen one",
        ),
    }
