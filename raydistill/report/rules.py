"""The search's setting beside simple rules: was it worth searching?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RULES = {
    "chosen": "the search's setting",
    "chosen_again": "the same, classifiers of other seeds",
    "fixed_fpir": "both thresholds at an FPIR of 1 %, or the least that calibration supports",
    "percentile_95": "near-copies alone, at the 95th percentile of strangers",
    "random_drop": "as many samples, drawn by chance",
    "no_filter": "no filter",
}
"""Every rule in words, in the order in which they are shown."""


DIFFERENCE = "The difference is the search's setting less that way, image by image: above 0 the search did better."
"""How `regret` is to be read."""


@dataclass(frozen=True)
class Rule:
    """One way to choose samples: its name in words and its metrics, each where there is one."""

    name: str
    kept: Mapping[str, Any] | None
    utility: Mapping[str, Any] | None
    regret: Mapping[str, Any] | None
    risk: Mapping[str, Any] | None


def rules(metrics: Mapping[str, Mapping[str, Any]]) -> list[Rule]:
    """List the rules that were compared; of the setting's second trainings there is a utility alone."""
    found = metrics.get("search", {})
    kinds = ("kept", "utility", "regret", "excess_risk")
    return [
        Rule(words, *(found.get(f"rule_{kind}.{rule}") for kind in kinds))
        for rule, words in RULES.items()
        if any(f"rule_{kind}.{rule}" in found for kind in kinds)
    ]


def conclusion(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which rules the search's setting certainly beats, which beat it, which can't be told from it or are it."""
    outcomes: dict[str, list[str]] = {"beats": [], "is beaten by": [], "can't be told from": [], "is the same as": []}
    error = []
    for rule, words in RULES.items():
        regret = metrics.get("search", {}).get(f"rule_regret.{rule}")
        if rule == "chosen_again" or not regret or not regret["interval"]:
            continue
        low, high = regret["interval"]
        if low == high == 0:
            # Only what keeps the same samples certainly differs by nothing.
            outcomes["is the same as"].append(words)
            continue
        how = "beats" if low > 0 else "is beaten by" if high < 0 else "can't be told from"
        outcomes[how].append(words)
        error.append(1 - regret["confidence"])
    said = [f"{how} {'; '.join(names)}" for how, names in outcomes.items() if names]
    if not said:
        return (
            "In utility nothing could be compared: no findings to learn, nothing kept, or too few patients to test on."
        )
    if not error:
        return f"In utility the search's setting {said[0]}: the same samples are kept."
    alone = f"each at {100 * (1 - max(error)):.3g} % by itself"
    # Source: Bonferroni's inequality.
    together = f", all {len(error)} together at {100 * max(0.0, 1 - sum(error)):.3g} % or more" if error[1:] else ""
    return f"In utility the search's setting {', and '.join(said)} ({alone}{together})."
