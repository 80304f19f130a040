"""The methods by which numbers were estimated: each stands once on the page, under a number that the cells name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COUNTED = re.compile(r" \((\d[\d.]* [a-z][^()]*)\)")
"""What an estimator says of one metric alone, such as ` (129 clusters, worth 43 independent records)`."""

LEVEL = re.compile(r",? both at [\d.]+ %| at [\d.]+ %")
"""Its confidence, which stands beside the interval."""

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Method:
    """A way to estimate: how, and the citation of the formula."""

    how: str
    reference: str | None


def methods(metrics: Metrics) -> dict[Method, int]:
    """Number the methods of all metrics, from 1 in the order of the page; hidden metrics have none."""
    found = dict.fromkeys(method for group in metrics.values() for one in group.values() if (method := method_of(one)))
    return {method: number for number, method in enumerate(found, start=1)}


def method_of(result: Mapping[str, Any]) -> Method | None:
    """Return the method of a metric, without what is of this one alone; None where nothing was estimated.

    Example:
        >>> method_of({"estimator": "mean at 95 % (12 clusters)", "reference": None})
        Method(how='mean', reference=None)
    """
    how = LEVEL.sub("", COUNTED.sub("", result["estimator"]))
    return Method(how, result["reference"]) if how not in ("", "none") else None


def counted(result: Mapping[str, Any]) -> str:
    """Return what an estimate counted, such as `12 clusters`; empty where it doesn't say."""
    return "; ".join(COUNTED.findall(result["estimator"]))
