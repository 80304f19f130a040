"""An estimate as a table and as fields."""

from collections.abc import Sequence
from typing import Any

from raydistill.core.prices import PACKAGED, Prices
from raydistill.core.section import Compute
from raydistill.core.spending import Bill, duration
from raydistill.costs.plan import Estimate

HEADER = ("to run", "work", "TFLOP", "machines", "time", "on demand", "with spot", "known from")
UNKNOWN = "?"
GOES_ON = {"pieces": "piece by piece", "checkpoints": "from checkpoints"}


def machines(compute: Compute | None, workers: int | None) -> str:
    """Say how many workers of what a stage asks for."""
    if compute is None:
        return "driver"
    one = (
        f"{compute.num_gpus:g} {compute.accelerator_type or 'GPU'}" if compute.num_gpus else f"{compute.num_cpus:g} CPU"
    )
    if workers is None:
        return f"{one} each, as many as fit"
    fewest, most = compute.workers
    count = f"{fewest} to {most}" if workers == most and fewest < most else str(workers)
    return f"{count} x {one}"


def rows(estimate: Estimate) -> list[tuple[str, ...]]:
    """Return the table's rows, one a stage, then the totals."""
    lines = [_row(bill) for bill in estimate.bills]
    least, all_of = "at least " * bool(estimate.total.unknown), estimate.total
    money = (f"{least}{all_of.on_demand:,.2f}", f"{least}{all_of.spot:,.2f}")
    lines.append(("total", "one after another", "", "", f"{least}{duration(all_of.hours)}", *money, ""))
    return lines


def _row(bill: Bill) -> tuple[str, ...]:
    asked = bill.demand
    paid = ("", "") if asked.compute is None else (_money(bill.on_demand), _money(bill.with_spot))
    tflop = "" if asked.tflop is None else f"{asked.tflop:.3g}"
    where = machines(asked.compute, asked.workers)
    basis = "" if asked.compute is None and asked.hours is None else asked.basis
    return asked.node, asked.work, tflop, where, "" if not basis else _time(asked.hours), *paid, basis


def _time(hours: float | None) -> str:
    return UNKNOWN if hours is None else duration(hours)


def _money(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return "< 0.01" if 0 < value < 0.005 else f"{value:,.2f}"


def sentences(estimate: Estimate, prices: Prices, source: str) -> list[str]:
    """Return what is said below the table: where prices and rates come from, what isn't in it, what spot would change.

    Args:
        estimate: to be explained.
        prices: that were used.
        source: the file they are from.
    """
    name = "the packaged raydistill/core/prices.yaml" if source == str(PACKAGED) else source
    note = f" ({prices.note})" if prices.note else ""
    own = any(bill.demand.compute and bill.demand.compute.price_per_hour for bill in estimate.bills)
    said = [f"prices: {prices.currency} of {prices.date}, {name}{note}" + "; compute.price_per_hour goes before" * own]
    rates = estimate.rates
    said.append(f"rates: measured in {rates.run}" if rates else "rates: none measured; --rates-from RUN takes a run's")
    said += estimate.notes
    if assumed := _assumed(estimate, prices):
        said.append(
            f"GPUs that stages don't name are taken to be {assumed} (--gpu NAME, or unnamed_gpus of the prices)"
        )
    if estimate.total.unknown:
        said.append(f"not in the totals, which are lower bounds: {', '.join(estimate.total.unknown)}")
    said.append("not priced: the driver's machine, starting up, idle machines, storage")
    return [*said, _spot(estimate, prices)]


def _assumed(estimate: Estimate, prices: Prices) -> str:
    """Say which GPU is assumed of stages that name none: of most, and of the others."""
    named: dict[str, list[str]] = {}
    for bill in estimate.bills:
        compute = bill.demand.compute
        if compute and (found := prices.named(compute)) != compute:
            named.setdefault(found.accelerator_type or "", []).append(bill.demand.node)
    most, *others = sorted(named, key=lambda gpu: -len(named[gpu])) or [""]
    return most + "".join(f", of {', '.join(named[gpu])} {gpu}" for gpu in others)


def _spot(estimate: Estimate, prices: Prices) -> str:
    moved = [bill for bill in estimate.bills if bill.spot is not None]
    if not moved:
        return "spot: changes nothing here: no stage that could run on it has both a time and a spot price"
    saved, later = (estimate.total.on_demand - estimate.total.spot), estimate.total.spot_hours - estimate.total.hours
    ways = [f"{_nodes(moved, way)} {words}" for way, words in GOES_ON.items() if _nodes(moved, way)]
    stay = [b.demand.node for b in estimate.bills if b.demand.compute and b.spot is None and b.on_demand is not None]
    keeps = f"; {', '.join(stay)} stay on demand" if stay else ""
    assumed = prices.spot
    change = f"{abs(saved):,.2f} {prices.currency} {'less' if saved >= 0 else 'more'}"
    return (
        f"spot: {change} and {duration(later)} longer, where "
        f"{' and '.join(ways)} go on after a loss{keeps}. Assumed, not measured: a worker is lost "
        f"{assumed.losses_per_hour:g} times an hour and replaced in {assumed.restart_minutes:g} min; a loss costs "
        f"{assumed.piece_minutes:g} min of a pool's worker, and half of checkpoint_minutes of all a training's workers"
    )


def _nodes(bills: Sequence[Bill], way: str) -> str:
    return ", ".join(bill.demand.node for bill in bills if bill.demand.restart == way)


def fields(estimate: Estimate, prices: Prices, source: str) -> dict[str, Any]:
    """Return the same for machines: `nodes` by name, `total`, `prices`, `rates_from`, `notes`."""
    return {
        "nodes": {bill.demand.node: _fields(bill) for bill in estimate.bills},
        "total": {**vars(estimate.total), "is_lower_bound": bool(estimate.total.unknown)},
        "prices": {"source": source, **prices.model_dump(mode="json", include={"currency", "date", "note", "spot"})},
        "rates_from": estimate.rates.run if estimate.rates else None,
        "notes": sentences(estimate, prices, source),
    }


def _fields(bill: Bill) -> dict[str, Any]:
    asked = bill.demand
    compute = asked.compute and asked.compute.model_dump(mode="json")
    kept = {name: getattr(asked, name) for name in ("work", "tflop", "workers", "hours", "basis", "restart")}
    paid = {"on_demand": bill.on_demand, "spot": bill.spot, "with_spot": bill.with_spot, "spot_hours": bill.spot_hours}
    return {**kept, "compute": compute, **paid}
