"""Are a classifier's probabilities what they say? Learned from synthetic images, tested on real ones."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.core.seeds import generator
from raydistill.metrics.bootstrap import Floats, WeightedStatistic, evaluate, resample
from raydistill.metrics.result import MetricResult, insufficient
from raydistill.metrics.utility import described, supported, worth

BINS, DRAWS = 10, 200
REFERENCE = "Naeini et al. 2015; Nguyen and O'Connor 2015"


def calibration_error(
    labels: Any, scores: Any, patients: Any, confidence: float = 0.95, bootstrap: int = 500, seed: int = 0
) -> MetricResult:
    """Return the expected calibration error, the mean over findings, with a patient-resampled interval.

    Images are sorted by probability into ten bins of as many each; in each, the mean probability is held against the
    share that has the finding.

    Args:
        labels: (N, F) of 0 and 1, real evaluation images.
        scores: (N, F) probabilities.
        patients: (N,) patient of each image.
        confidence: two-sided confidence, in (0, 1).
        bootstrap: resamples of patients.
        seed: root of the resamples.

    Returns:
        The error in [0, 1]. Its `control` is what the same probabilities would show if each were exactly right: bins of
        few images never agree entirely.

    Source: Naeini, Cooper, Hauskrecht 2015 (AAAI); bins of equal size, Nguyen and O'Connor 2015 (EMNLP).
    """
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=float)
    used, unit = supported(truth, patients), "mean absolute difference of probability and share"
    if not used.any():
        why = described(used) or "no findings"
        return insufficient(why, n=len(truth), unit=unit, confidence=confidence, reference=REFERENCE)
    truth, values = truth[:, used], values[:, used]
    error = _mean_error(truth, values)
    value, spread = evaluate(error, len(truth)), resample(error, patients, repetitions=bootstrap, seed=seed)
    rng = generator(seed, "calibrated")
    exact = [evaluate(_mean_error(rng.uniform(size=values.shape) < values, values), len(truth)) for _ in range(DRAWS)]
    return MetricResult(
        value=value,
        interval=spread.logit(value, worth(truth, patients), confidence),
        confidence=confidence,
        n=len(truth),
        unit=unit,
        estimator=f"{BINS} bins of equal size; patient-clustered bootstrap ({bootstrap} resamples), logit interval",
        control=float(np.mean(exact)),
        baseline=0.0,
        reference=REFERENCE,
        note=described(used),
    )


def _mean_error(truth: NDArray[np.bool_], values: Floats) -> WeightedStatistic:
    starts = np.unique(np.linspace(0, len(truth), BINS, endpoint=False).astype(int))
    orders = np.argsort(values, axis=0, kind="stable").T
    gaps = truth.astype(float) - values

    def error(weights: Floats) -> Floats:
        bins = [
            np.add.reduceat(weights[:, order] * gaps[order, finding], starts, axis=1)
            for finding, order in enumerate(orders)
        ]
        return np.asarray(np.abs(np.stack(bins)).sum(axis=2).mean(axis=0) / weights.sum(axis=1))

    return error
