"""Are classifiers' probabilities what they say? Learned from synthetic images, tested on real ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from raydistill.metrics.bootstrap import Floats
from raydistill.metrics.luck import pooled, widened
from raydistill.metrics.result import MetricResult, insufficient
from raydistill.metrics.utility import described, supported, worth

BINS = 10
PATIENTS_PER_BIN, LEAST_IN_BIN = 5, 3
"""So many on average, or there are fewer bins; of a bin with fewer than the latter nobody knows how it varies."""

REFERENCE = "Kumar et al. 2019; Ferro and Fricker 2012"


def calibration_error(labels: Any, groups: Sequence[Any], patients: Any, confidence: float = 0.95) -> MetricResult:
    """Return the root mean squared calibration error, over findings and classifiers, without what chance adds to it.

    Images are sorted by probability into bins of as many each. In each the mean probability less the share that has the
    finding is a gap; even of exact probabilities its square isn't 0, as a bin holds few images. By how much is the
    gap's variance from patient to patient, and that is taken off. The rest may fall below 0, and is 0 then.

    Args:
        labels: (N, F) of 0 and 1, real evaluation images.
        groups: (S, N, F) probabilities of the classifiers that are measured, and of others taught alike, for the luck.
        patients: (N,) patient of each image.
        confidence: two-sided confidence, in (0, 1).

    Returns:
        The error in [0, 1]. Its interval is the root of one of its square: t with an error by leaving out one patient
        at a time, and the luck of training. It begins at 0 where it isn't proven that probabilities are wrong.

    Source: debiased, Kumar, Liang, Ma 2019 (NeurIPS; arXiv 1909.10155), for the Brier score Ferro and Fricker 2012,
    QJRMS 138:1954, with a variance clustered by patient; bins of equal size, Nguyen and O'Connor 2015 (EMNLP);
    jackknife, Efron and Stein 1981, Annals of Statistics 9:586: for squares too wide rather than too narrow.
    """
    truth, used = np.asarray(labels, dtype=bool), supported(np.asarray(labels, dtype=bool), patients)
    unit = "root mean squared difference of probability and share"
    if not used.any():
        why = described(used) or "no findings"
        return insufficient(why, n=len(truth), unit=unit, confidence=confidence, reference=REFERENCE)
    truth, codes = truth[:, used], np.unique(np.asarray(patients), return_inverse=True)[1]
    values = [[_squared(truth, np.asarray(own, float)[:, used], codes) for own in group] for group in groups]
    own, people = np.mean(values[0], axis=0), int(codes.max()) + 1
    square, left_out = max(0.0, float(own[0])), own[1:]
    error = np.sqrt((people - 1) / people * np.square(left_out - left_out.mean()).sum())
    reach = float(stats.t.ppf(0.5 + confidence / 2, worth(truth, patients) - 1) * error)
    found = MetricResult(
        value=square,
        interval=(square - reach, square + reach),
        confidence=confidence,
        n=len(truth),
        unit=unit,
        estimator=f"{bins_of(people)} bins of equal size, debiased; jackknife of {people} patients, t interval",
        baseline=0.0,
        reference=REFERENCE,
        note=described(used),
    )
    luck = pooled([float(one[0]) for one in group] for group in values)
    found = widened(found, {luck: 1 / len(values[0])}, (0.0, 1.0))
    low, high = found.interval or (0.0, 1.0)
    return found.model_copy(
        update={"value": float(np.sqrt(square)), "interval": (float(np.sqrt(low)), float(np.sqrt(high)))}
    )


def bins_of(patients: int) -> int:
    """Return the number of bins that so many patients are enough for."""
    return max(1, min(BINS, patients // PATIENTS_PER_BIN))


def _squared(truth: NDArray[np.bool_], values: Floats, codes: NDArray[np.int64]) -> Floats:
    """Return the debiased squared error of all patients, and of all but each in turn: (1 + P,)."""
    columns = zip(truth.T, values.T, strict=True)
    return np.asarray(np.mean([_of_finding(hit, own, codes) for hit, own in columns], axis=0))


def _of_finding(truth: NDArray[np.bool_], values: Floats, codes: NDArray[np.int64]) -> Floats:
    people = int(codes.max()) + 1
    count = bins_of(people)
    bins = np.empty(len(values), int)
    bins[np.argsort(values, kind="stable")] = np.arange(len(values)) * count // len(values)
    at, shape = codes * count + bins, (people, count)
    gaps, images = (
        np.bincount(at, weights, minlength=people * count).reshape(shape) for weights in (truth - values, None)
    )
    each = np.stack([gaps, images, gaps**2, gaps * images, images**2, images > 0])
    whole = each.sum(axis=1, keepdims=True)
    known = whole[-1, 0] >= LEAST_IN_BIN
    sums = np.concatenate([whole, whole - each], axis=1)[..., known]
    gap, size, squares, products, sizes, within = sums[0] / sums[1], *sums[1:]
    chance = within / (within - 1) * (squares - 2 * gap * products + gap**2 * sizes) / size**2
    return np.asarray((gap**2 - chance).mean(axis=1))
