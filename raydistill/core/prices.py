"""What machines cost: a small table that the user edits or replaces. Nothing here knows a vendor's prices."""

import datetime
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveFloat, ValidationError

from raydistill.core.errors import ConfigError
from raydistill.core.loading import parse
from raydistill.core.section import Compute, Section

PACKAGED = Path(__file__).with_name("prices.yaml")
ANY = "any"
"""The table's line for all stages that don't say which GPU they run on."""


class Price(Section):
    """Of something for an hour, on demand and as spot; null where spot isn't offered."""

    on_demand: PositiveFloat
    spot: PositiveFloat | None = None

    def times(self, count: float) -> "Price":
        """Return the price of several."""
        return Price(on_demand=count * self.on_demand, spot=None if self.spot is None else count * self.spot)


class SpotAssumptions(Section):
    """What is assumed of spot machines; nobody measured it."""

    losses_per_hour: NonNegativeFloat = Field(description="Of one worker.")
    restart_minutes: NonNegativeFloat = Field(description="Until another one is there and goes on.")
    piece_minutes: NonNegativeFloat = Field(description="Work lost with a worker where stages go on piece by piece.")

    def lost_share(self, workers: int, checkpoint_minutes: float | None) -> float:
        """Return the share of the time on spot that is lost, in expectation; 1 or more: it never ends.

        A pool loses one worker's piece. A training, all of whose workers stop with one, loses half of what is between
        two checkpoints on average.

        Args:
            workers: that run at once.
            checkpoint_minutes: between two checkpoints of a training; None for a pool.
        """
        if checkpoint_minutes is None:
            return self.losses_per_hour * (self.restart_minutes + self.piece_minutes) / 60
        return self.losses_per_hour * workers * (self.restart_minutes + checkpoint_minutes / 2) / 60


class Prices(Section):
    """The table."""

    currency: str
    date: datetime.date
    note: str = ""
    gpus: Mapping[str, Price] = Field(default_factory=dict, description="Of one GPU and hour, by Ray's name of it.")
    unnamed_gpus: Mapping[str, str] = Field(
        default_factory=dict,
        description="Which GPU is assumed where a stage names none: by a label that its nodes must have, written "
        "`label=value`, and by `any` for the others.",
    )
    cpu: Price | None = Field(None, description="Of one CPU and hour, for workers without a GPU.")
    spot: SpotAssumptions

    def of(self, compute: Compute) -> Price | None:
        """Return the price of a worker and hour, None where the table has none; `price_per_hour` goes before it."""
        if compute.price_per_hour:
            return Price(on_demand=compute.price_per_hour)
        if not compute.num_gpus:
            return self.cpu and self.cpu.times(compute.num_cpus)
        name = self.named(compute).accelerator_type or ""
        price = self.gpus.get(name, self.gpus.get(name.split("-")[0]))
        return price and price.times(compute.num_gpus)

    def named(self, compute: Compute) -> Compute:
        """Return the same with the GPU that is assumed, where it asks for one and doesn't name it."""
        if compute.accelerator_type or not compute.num_gpus:
            return compute
        asked = [*(f"{label}={value}" for label, value in compute.label_selector.items()), ANY]
        found = next((self.unnamed_gpus[name] for name in asked if name in self.unnamed_gpus), None)
        return compute.model_copy(update={"accelerator_type": found})


def read_prices(path: Path | None, gpu: str | None = None) -> Prices:
    """Read a table.

    Args:
        path: a YAML file like the packaged one; None reads that.
        gpu: what every stage has that doesn't name its GPU, whatever the table assumes.

    Raises:
        ConfigError: when it can't be read or isn't a table of prices, or has no price of that GPU, in one line.
    """
    prices = _read(path)
    if gpu is None:
        return prices
    if gpu not in prices.gpus:
        raise ConfigError(f"--gpu {gpu}: {path or PACKAGED} has prices of {', '.join(prices.gpus) or 'none'}")
    return prices.model_copy(update={"unnamed_gpus": {ANY: gpu}})


def _read(path: Path | None) -> Prices:
    file = path or PACKAGED
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"--prices {file} can't be read: {error.strerror}") from None
    try:
        return Prices.model_validate(parse(content, str(file)))
    except ValidationError as error:
        mistakes = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg'].lower()}" for e in error.errors()]
        raise ConfigError(f"{file} isn't a table of prices: {'; '.join(mistakes)}") from None
