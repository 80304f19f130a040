"""The way of asking that leaks most: the largest of several excess risks, with bounds that hold for all of them."""

from collections.abc import Mapping

from raydistill.metrics.result import MetricResult, insufficient

MOST = 1.0
"""No excess risk is larger: the upper bound of a way that has no number."""


def worst_way(found: Mapping[str, MetricResult]) -> MetricResult:
    """Return the largest excess risk over ways of asking.

    While every way's interval holds at once, the largest risk lies between the largest lower and the largest upper end:
    it is proven too large where any way's is, and small enough only where all are.

    Args:
        found: by way, every way that was asked for, at a confidence corrected for their number.

    Returns:
        A result without a value where a way has no number and no other way's risk is proven.

    Source: Bonferroni's inequality; Miller 1981, Simultaneous Statistical Inference.
    """
    known = {name: result.interval for name, result in found.items() if result.interval}
    silent = ", ".join(name for name in found if name not in known)
    low = max((low for low, _ in known.values()), default=0.0)
    if not known or (silent and low <= 0.0):
        asked = sum(result.n for result in found.values())
        why = f"of samples asked for by {silent or 'no way at all'} nothing can be said"
        return insufficient(why, n=asked, unit="share of samples beyond chance")
    worst = max(known, key=lambda name: found[name].value or 0.0)
    high = MOST if silent else max(high for _, high in known.values())
    note = (
        f"{worst}, the largest of {len(found)} ways; the ends are the largest of all ways', at a confidence corrected"
    )
    note += " for their number (Bonferroni)" + (f"; of {silent} nothing can be said" if silent else "")
    return found[worst].model_copy(update={"interval": (low, high)}).with_note(note)
