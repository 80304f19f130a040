"""Where the threshold stands: an operating point at a target FPIR, set on people nobody trained on.

The rate is that of open-set identification (1:N) in ISO/IEC 19795-1 and of NIST's FRVT 1:N (NISTIR 8271): FPIR, the
share of searches by strangers that return anyone at or above the threshold.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy.stats import binomtest

from raydistill.core.errors import InputError

Scores = npt.NDArray[np.floating[Any]]


CHANCE_HITS, DEGREES_OF_FREEDOM = 0.01, 8
"""Samples that chance may bring to a `certain_threshold`, and in how many dimensions."""


class OperatingPoint(BaseModel):
    """A threshold and what is known about it.

    Attributes:
        threshold: a score at or above it is a match; representable in single precision, so that comparing float32 or
            float64 scores gives the same answer.
        target_fpir: what was asked for.
        fpir: share of calibration images at or above the threshold.
        fpir_interval: exact binomial interval of `fpir`, as if images were independent.
        supported_fpir: the smallest FPIR this calibration set can support.
        num_images: calibration images.
        num_patients: calibration patients.
        note: what a reader must know, empty when nothing.
    """

    model_config = ConfigDict(frozen=True)

    threshold: float
    target_fpir: float
    fpir: float
    fpir_interval: tuple[float, float]
    supported_fpir: float
    num_images: int
    num_patients: int
    note: str


def calibrate(
    calibration_scores: Scores, calibration_patients: Any, target_fpir: float, confidence: float
) -> OperatingPoint:
    """Set the smallest threshold that at most the target share of a further stranger's images passes, expectedly.

    People are exchangeable with one another, their images aren't: each person counts once, by the share of their images
    that passes (`person_threshold`). So the smallest FPIR that n patients support is 1 / (n + 1). A smaller target is
    not extrapolated; the point is set at the supported FPIR, which flags more, and says so.

    Args:
        calibration_scores: (N,) best score over the gallery of each calibration image.
        calibration_patients: N patient ids.
        target_fpir: in (0, 1).
        confidence: of the interval, in (0, 1).

    Raises:
        InputError: when there is no calibration image, a score isn't finite, or the rows don't match.

    Source: FPIR, ISO/IEC 19795-1; 1 / (n + 1), Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005,
    prop. 2.4; interval, Clopper and Pearson 1934.
    """
    scores = _finite(calibration_scores, "calibration")
    patients = len(set(calibration_patients))
    if len(calibration_patients) != len(scores):
        raise InputError(f"calibration: {len(scores)} scores for {len(calibration_patients)} patient ids")
    supported = supported_fpir(patients)
    threshold = person_threshold(scores, calibration_patients, max(target_fpir, supported))
    flagged = scores >= threshold
    interval = binomtest(int(flagged.sum()), len(flagged)).proportion_ci(confidence, method="exact")
    return OperatingPoint(
        threshold=threshold,
        target_fpir=target_fpir,
        fpir=float(flagged.mean()),
        fpir_interval=(float(interval.low), float(interval.high)),
        supported_fpir=supported,
        num_images=len(scores),
        num_patients=patients,
        note=_note(target_fpir, supported, len(scores), patients),
    )


def supported_fpir(patients: int) -> float:
    """Return the smallest FPIR that so many calibration patients can support; source as that of `calibrate`."""
    return 1 / (patients + 1)


def person_threshold(scores: Scores, patients: Any, target: float) -> float:
    """Return the smallest single-precision number that a further person's images reach in a share of `target` at most.

    Of n people the shares of images at or above it, and 1 for the person to come, add up to no more than target times
    n + 1. Were that person among the others, the same threshold or a lower one would have been set by all n + 1, of
    whom the mean share is `target` at most; so is, people being exchangeable, the expected share of any of them. With
    one image a person it is `quantile_threshold`.

    Args:
        scores: (N,) finite.
        patients: (N,) whose image each is.
        target: in (0, 1).

    Source: split conformal prediction, Vovk et al. 2005, prop. 2.4, with groups as in Dunn, Wasserman, Ramdas 2023
    (JASA 118:2491), section 3.
    """
    person = pd.factorize(np.asarray(patients))[0]
    images = np.bincount(person)
    order = np.argsort(-scores.astype(np.float32), kind="stable")
    descending = scores.astype(np.float32)[order]
    reached = 1 + np.cumsum(1 / images[person][order])
    allowed = target * (len(images) + 1) + 1e-9
    # How many of the largest may pass; equal scores pass together.
    most = int(np.searchsorted(reached, allowed, side="right"))
    blocking = descending[min(most, len(descending) - 1)]
    return float(np.nextafter(blocking, np.float32(np.inf)))


def quantile_threshold(scores: Scores, target: float) -> float:
    """Return the smallest single-precision number that one more score reaches with a probability of `target` at most.

    Above the k-th largest of n exchangeable scores (N,) lies the next one with probability k / (n + 1) at most. So the
    scores themselves reach it a little less often than the target; the largest of them is never left out.
    """
    descending = np.sort(scores.astype(np.float32))[::-1]
    allowed = max(0, int(np.floor(target * (len(descending) + 1) + 1e-9)) - 1)
    return float(np.nextafter(descending[allowed], np.float32(np.inf)))


def certain_threshold(scores: Scores, patients: Any, samples: int) -> float:
    """Return the score of a picture so much nearer to a copy than any stranger's that chance doesn't bring one there.

    A similarity falls with the squared distance, so half the distance is a quarter of what is missing to 1. The largest
    of n strangers is passed by one more in n, and distances of pictures with k degrees of freedom fall off towards 0
    as d^k: of N samples N r^k / n lie within r times the smallest of n, whatever the size and make-up of the gallery.
    So r is where that is `CHANCE_HITS`, with fewer degrees of freedom than pictures have, and never more than a half.
    tests/metrics simulates it.

    Args:
        scores: (n,) of strangers.
        patients: (n,) whose images these are; each person counts once.
        samples: N, among which any may reach it.

    Raises:
        InputError: when there is no score, or one isn't finite.

    Source: the distance to the nearest of n points in k dimensions, Clark and Evans 1954, Ecology 35:445, generalised;
    k as found for pictures in networks' eyes, Ansuini et al. 2019 (NeurIPS, arXiv 1905.12784): 12 and more.
    """
    nearest = float(_finite(scores, "calibration").max())
    ratio = min(0.5, (CHANCE_HITS * len(set(patients)) / max(1, samples)) ** (1 / DEGREES_OF_FREEDOM))
    return float(np.float32(1 - ratio**2 * (1 - nearest)))


def _finite(scores: Scores, name: str) -> Scores:
    scores = np.asarray(scores)
    if not len(scores):
        raise InputError(f"{name}: no image to measure on; the cohort is too small for this split")
    if not np.isfinite(scores).all():
        raise InputError(f"{name}: {int((~np.isfinite(scores)).sum())} of {len(scores)} scores aren't finite")
    return scores


def _note(target: float, supported: float, images: int, patients: int) -> str:
    notes = []
    if target < supported:
        notes.append(
            f"{patients} calibration patients can't support an FPIR of {target:.3g}; set at {supported:.3g} instead"
        )
    if images > patients:
        notes.append(f"{images} images of {patients} patients: the interval takes images as independent")
    return "; ".join(notes)
