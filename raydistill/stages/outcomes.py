"""What the trials of a search came to, all together: how many of them differ, and which bounds they break."""

from collections.abc import Mapping

import pandas as pd

BREAKS = "breaks_"
"""How columns of trials begin that say by how much a bound is broken; 0 or less keeps it."""

BOUNDS = {
    "risk": "too high an excess risk in the judge's eye (tune.max_excess_risk)",
    "near_copies": "too many near-copies (tune.max_near_copy_excess)",
    "kept_share": "too few samples kept (tune.min_kept_share)",
    "taught": "nothing to learn from",
}
"""What a setting comes to that breaks a bound, and what that bound is called."""

OUTCOME = ("kept_share", "utility", "risk_high", "near_copies_high")
"""What is measured alike where two settings keep the same samples."""


def different(trials: pd.DataFrame) -> int:
    """Return how many different outcomes the trials have, one a row."""
    return len(trials[[name for name in OUTCOME if name in trials]].drop_duplicates())


def broken(trials: pd.DataFrame) -> dict[str, int]:
    """Return how many of the trials break each bound that any of them breaks, most first."""
    counts = {bound: int((trials[BREAKS + bound] > 0).sum()) for bound in BOUNDS if BREAKS + bound in trials}
    return {bound: count for bound, count in sorted(counts.items(), key=lambda one: -one[1]) if count}


def broken_in_words(counts: Mapping[str, int], total: int) -> str:
    """Say how many settings break which bound.

    Example:
        >>> broken_in_words({"taught": 3}, 4)
        '3 of 4 settings come to nothing to learn from'
    """
    first, *more = [f"{count} to {BOUNDS[bound]}" for bound, count in counts.items()] or ["none to anything forbidden"]
    count, _, what = first.partition(" ")
    return ", ".join([f"{count} of {total} settings come {what}", *more])
