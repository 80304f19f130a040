"""From work and pace to hours and money, and what spot machines would change: plain reckoning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raydistill.core.prices import Prices, SpotAssumptions
from raydistill.core.section import Compute

Restart = Literal["pieces", "checkpoints"]


@dataclass(frozen=True)
class Demand:
    """What a stage that is still to run asks for.

    Attributes:
        node: the stage's.
        work: what it does, in words.
        tflop: 10^12 operations, where they are counted.
        compute: of a worker; None for what runs on the driver.
        workers: that run at once; None where nobody knows.
        hours: of wall time with those, None where nothing is known.
        basis: what `hours` rests on, or why there are none.
        restart: how the stage goes on after a lost machine; None where it starts anew, so spot isn't for it.
        checkpoint_minutes: between two checkpoints of a training.
    """

    node: str
    work: str
    tflop: float | None
    compute: Compute | None
    workers: int | None
    hours: float | None
    basis: str
    restart: Restart | None
    checkpoint_minutes: float | None = None


@dataclass(frozen=True)
class Bill:
    """A demand with its price; `None` where it isn't known.

    Attributes:
        demand: what is asked for.
        on_demand: money.
        spot: money with spot machines; None where they aren't for this stage or have no price.
        spot_hours: wall time on them, with what is expected to be lost.
    """

    demand: Demand
    on_demand: float | None
    spot: float | None
    spot_hours: float | None

    @property
    def with_spot(self) -> float | None:
        """Money where spot machines are taken for what may run on them."""
        return self.on_demand if self.spot is None else self.spot


@dataclass(frozen=True)
class Total:
    """All bills together.

    Attributes:
        hours, spot_hours: of wall time, the stages one after another, without and with spot.
        on_demand, spot: money, without and with spot.
        unknown: nodes of which hours or money aren't known: without them the sums are lower bounds.
    """

    hours: float
    spot_hours: float
    on_demand: float
    spot: float
    unknown: list[str]


def bill(demand: Demand, prices: Prices) -> Bill:
    """Price one stage."""
    price = demand.compute and prices.of(demand.compute)
    if not price or demand.hours is None or demand.workers is None:
        return Bill(demand, None, None, None)
    hours = demand.hours * demand.workers
    spot_hours = _on_spot(demand, demand.hours, demand.workers, prices.spot) if price.spot else None
    spot = None if spot_hours is None or price.spot is None else spot_hours * demand.workers * price.spot
    return Bill(demand, hours * price.on_demand, spot, spot_hours)


def _on_spot(demand: Demand, hours: float, workers: int, assumed: SpotAssumptions) -> float | None:
    if demand.restart is None:
        return None
    lost = assumed.lost_share(workers, demand.checkpoint_minutes)
    return hours / (1 - lost) if lost < 1 else None


def total(bills: Sequence[Bill]) -> Total:
    """Sum up what is known; the driver's machine isn't priced."""
    hours = [one.demand.hours or 0.0 for one in bills]
    spot_hours = [one.spot_hours or own for one, own in zip(bills, hours, strict=True)]
    paid = [one for one in bills if one.demand.compute]
    return Total(
        hours=sum(hours),
        spot_hours=sum(spot_hours),
        on_demand=sum(one.on_demand or 0.0 for one in paid),
        spot=sum(one.with_spot or 0.0 for one in paid),
        unknown=[one.demand.node for one in paid if one.on_demand is None],
    )


def duration(hours: float) -> str:
    """Say a time in a fitting unit."""
    seconds = 3600 * hours
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
