"""What a threshold set on pairs is worth against a whole gallery: the mistake that 1:N calibration avoids."""

from typing import Any

import numpy as np
import numpy.typing as npt

from raydistill.metrics.intervals import clustered_rate
from raydistill.metrics.result import MetricResult, insufficient

PAIR_RATE = 1e-3
"""Share of pairs of different people that the threshold lets through: strict, for a verification of two images."""

MOST_ROWS = 2000
"""Of each side, drawn at random: the quantile of a million pairs is known well enough."""

UNIT = "share of unseen real images"


def pairwise_threshold_fpir(
    strangers: npt.NDArray[np.float32],
    gallery: npt.NDArray[np.float32],
    scores: Any,
    patients: Any,
    confidence: float,
    seed: int = 0,
) -> MetricResult:
    """Return the share of strangers who match someone, where the threshold lets one pair in a thousand through.

    Args:
        strangers: (M, D) embeddings of people who aren't in the gallery, unit rows.
        gallery: (G, D) embeddings of it.
        scores: (M',) best score of each stranger over the whole gallery.
        patients: (M',) whose image each is.
        confidence: two-sided confidence, in (0, 1).
        seed: of the draw of pairs.

    Returns:
        The FPIR; `baseline` is the rate among pairs, the note what independent pairs would make of it.

    Source: 1:N error rates from 1:1, ISO/IEC 19795-1; Grother and Phillips, Models of Large Population Recognition
    Performance, CVPR 2004: 1 - (1 - FMR)^G for independent comparisons.
    """
    if not len(strangers) or not len(gallery) or not len(scores):
        return insufficient("no stranger or no gallery", n=len(scores), unit=UNIT, confidence=confidence)
    rng = np.random.default_rng(seed)
    parts = [side[rng.permutation(len(side))[:MOST_ROWS]] for side in (strangers, gallery)]
    pairs = parts[0] @ parts[1].T
    threshold = float(np.quantile(pairs, 1 - PAIR_RATE))
    independent = 1 - (1 - PAIR_RATE) ** len(gallery)
    return clustered_rate(
        np.asarray(scores) >= threshold,
        patients,
        confidence,
        unit=UNIT,
        baseline=PAIR_RATE,
        reference="ISO/IEC 19795-1; Grother and Phillips 2004",
        note=f"threshold {threshold:.4g}, passed by one of {1 / PAIR_RATE:.0f} pairs of different people; gallery of "
        f"{len(gallery)} images; {independent:.3g} if pairs were independent",
    )
