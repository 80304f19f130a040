"""What the trials of a search came to, all together: how many of them differ, and which bounds they break."""

from collections.abc import Mapping

import pandas as pd

BREAKS = "breaks_"
"""How columns of trials begin that say by how much a bound is broken; 0 or less keeps it."""

BOUNDS = {
    "risk": "too many taken for a train patient by the judge",
    "near_copies": "too many near-copies",
    "kept_share": "too few samples kept",
    "taught": "nothing to learn from",
}
"""What a setting comes to that breaks a bound."""

SET_BY = {"risk": "max_reidentification_rate", "near_copies": "max_near_copy_rate", "kept_share": "min_kept_share"}
"""Where `tune` sets the bound."""

OUTCOME = ("kept_share", "utility", "risk_high", "near_copies_high")
"""What is measured alike where two settings keep the same samples."""


def different(trials: pd.DataFrame) -> int:
    """Return how many different outcomes the trials have, one a row."""
    return len(trials[[name for name in OUTCOME if name in trials]].drop_duplicates())


def outcomes_in_words(count: int) -> str:
    """Write how many outcomes there are."""
    return "one and the same outcome" if count == 1 else f"{count} different outcomes"


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
    said: list[str] = []
    for bound, count in counts.items():
        where = f" (tune.{SET_BY[bound]})" if bound in SET_BY else ""
        said.append(f"{count}{'' if said else f' of {total} settings come'} to {BOUNDS[bound]}{where}")
    return ", ".join(said)
