"""Simple ways to set a filter, for a search to be held against."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.seeds import generator
from raydistill.matching.calibration import quantile_threshold
from raydistill.matching.policy import ThresholdPolicy, policy_at

FIXED_FPIR, PERCENTILE = 0.01, 0.95
"""One stranger in a hundred, as in biometric tests; the 95th percentile of similarity, Dar et al., arXiv 2402.01054."""

Kept = NDArray[np.bool_]


def simple_rules(matches: pa.Table, strangers: pa.Table, chosen: Kept, confidence: float, seed: int) -> dict[str, Kept]:
    """Say what simple rules would keep.

    Args:
        matches: columns.JUDGED of N samples that were made.
        strangers: columns.MATCHES of calibration images.
        chosen: (N,) what the search's setting keeps.
        confidence: of the calibration.
        seed: of the random drop.

    Returns:
        By name, (N,): `fixed_fpir`, both thresholds at an FPIR of 1 %; `percentile_95`, near-copies alone, at the 95th
        percentile of strangers; `no_filter`; `random_drop`, as many as the search's setting keeps, whichever they are.
    """
    fixed = ThresholdPolicy(policy_at(strangers, FIXED_FPIR, FIXED_FPIR, confidence)).judge(matches)
    similar = quantile_threshold(strangers["structure_score"].to_numpy(), 1 - PERCENTILE)
    return {
        "fixed_fpir": np.asarray(fixed["keep"].to_numpy(zero_copy_only=False)),
        "percentile_95": np.asarray(matches["structure_score"].to_numpy() < similar),
        "no_filter": np.ones(len(chosen), bool),
        "random_drop": random_drop(chosen, seed),
    }


def random_drop(chosen: Kept, seed: int) -> Kept:
    """Return as many of N samples as are `chosen` (N,), whichever they are."""
    return np.asarray(generator(seed, "random drop").permutation(len(chosen)) < int(chosen.sum()))
