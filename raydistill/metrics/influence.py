"""How certain is it that one classifier is better than another on the same patients? Without a resample."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from raydistill.metrics.bootstrap import Floats
from raydistill.metrics.utility import supported


def influence(labels: Any, scores: Any, patients: Any) -> Floats:
    """Return by how much each of P patients moves a mean area under the ROC curve over findings.

    Args:
        labels: (N, F) of 0 and 1.
        scores: (N, F), higher means likelier; or (S, N, F) of several classifiers, whose areas are averaged.
        patients: (N,) patient of each image.

    Returns:
        (P,), in the order of the sorted patients; their sum is 0. Those of two classifiers on the same images can be
        subtracted: what is left is how each patient moves the difference of their areas. 0 where nothing is measured.

    Source: structural components of an area, DeLong et al. 1988, Biometrics 44:837; summed up by patient, Obuchowski
    1997, Biometrics 53:567.
    """
    truth, codes = np.asarray(labels, dtype=bool), np.unique(np.asarray(patients), return_inverse=True)[1]
    used, values = supported(truth, patients), np.asarray(scores, dtype=float)
    each = values.reshape(-1, *truth.shape)[..., used]
    moved = [
        np.bincount(codes, _of_images(hit, column))
        for own in each
        for hit, column in zip(truth[:, used].T, own.T, strict=True)
    ]
    return np.asarray(np.mean(moved, axis=0)) if moved else np.zeros(int(codes.max()) + 1)


def standard_error(influences: Floats) -> float:
    """Return the standard error of what P patients move, from one sample of patients to another; infinite of one."""
    count = len(influences)
    return float(np.sqrt(count / (count - 1) * np.square(influences).sum())) if count > 1 else float("inf")


def _of_images(hit: NDArray[np.bool_], column: Floats) -> Floats:
    """Return by how much each image (N,) moves the area: of the others' side it beats more, or fewer, than most."""
    sides = np.stack([hit, ~hit])
    within = np.zeros(len(hit))
    for side in sides:
        within[side] = rankdata(column[side])
    below = (rankdata(column) - within) / np.where(hit, sides[1].sum(), sides[0].sum())
    right = np.where(hit, below, 1 - below)
    return np.asarray((right - right[hit].mean()) / np.where(hit, sides[0].sum(), sides[1].sum()))
