"""The methods by which numbers were estimated: each stands once on the page, under a number that the cells name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COUNTED = re.compile(r" \((\d[\d.]* [a-z][^()]*)\)")
"""What an estimator says of one metric alone, such as ` (129 clusters, worth 43 independent records)`."""

LEVEL = re.compile(r",? both at [\d.]+ %| at [\d.]+ %")
"""Its confidence, which stands beside the interval."""

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Method:
    """A way to estimate, under its number: how, and the citations of formulas."""

    number: int
    how: str
    references: Sequence[str]


def methods(metrics: Metrics) -> dict[str, Method]:
    """Number the methods of all metrics, from 1, by how they estimate; hidden metrics have none."""
    found: dict[str, dict[str, None]] = {}
    for result in (one for group in metrics.values() for one in group.values()):
        if how := method_of(result):
            found.setdefault(how, {}).update(dict.fromkeys((result["reference"] or "").split("; ")))
    return {
        how: Method(number, how, [reference for reference in references if reference])
        for number, (how, references) in enumerate(found.items(), start=1)
    }


def method_of(result: Mapping[str, Any]) -> str:
    """Return how a metric was estimated, without what is of this one alone; empty where nothing was.

    Example:
        >>> method_of({"estimator": "mean at 95 % (12 clusters)"})
        'mean'
    """
    how = LEVEL.sub("", COUNTED.sub("", result["estimator"]))
    return "" if how == "none" else how


def counted(result: Mapping[str, Any]) -> str:
    """Return what an estimate counted, such as `12 clusters`; empty where it doesn't say."""
    return "; ".join(COUNTED.findall(result["estimator"]))
