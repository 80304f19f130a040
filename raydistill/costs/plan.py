"""What is still to run, priced: measured rates go before counted operations, and what nobody knows is said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raydistill.core.config import Config
from raydistill.core.errors import ConfigError
from raydistill.core.loading import parse, validate
from raydistill.core.manifest import Manifest
from raydistill.core.prices import Prices
from raydistill.core.spending import Bill, Demand, Restart, Total, bill, total
from raydistill.core.store import Store
from raydistill.costs.rates import Rates, measured_in, workers_of
from raydistill.costs.stages import work_of
from raydistill.costs.work import Known, Work, counts_of
from raydistill.folder import new_runner, read, read_summary
from raydistill.stages.base import Stage


@dataclass(frozen=True)
class Estimate:
    """What is still to run.

    Attributes:
        bills: one a stage that isn't cached, in their order.
        total: of them.
        rates: what was measured; None where there is no run to take rates from.
        notes: what the reader must know beside that.
    """

    bills: Sequence[Bill]
    total: Total
    rates: Rates | None
    notes: Sequence[str]


def estimate(
    config: Config, stages: Sequence[Stage], manifests: Mapping[str, Manifest], prices: Prices, rates: Rates | None
) -> Estimate:
    """Estimate what it takes to bring every node up to date.

    Args:
        config: the whole configuration.
        stages: as it wires them.
        manifests: of nodes that are there.
        prices: of machines.
        rates: measured in a run.
    """
    counts: dict[str, Mapping[str, int]] = {node: counts_of(manifest) for node, manifest in manifests.items()}
    notes = []
    if "ingest" not in counts and rates and "ingest" in rates.counts and _is_same_cohort(config, rates.config):
        counts["ingest"] = rates.counts["ingest"]
        notes.append(f"numbers of real images are those of {rates.run}")
    known = Known(config, counts, prices.named)
    bills = [bill(_demand(stage, known, rates), prices) for stage in stages if stage.node not in manifests]
    return Estimate(bills, total(bills), rates, notes)


def _is_same_cohort(config: Config, other: Config) -> bool:
    return (config.source, config.ingest, config.seed) == (other.source, other.ingest, other.seed)


def _demand(stage: Stage, known: Known, rates: Rates | None) -> Demand:
    work, compute = work_of(stage, known), stage.compute
    workers = workers_of(work, compute, known.config)
    tflop, hours, basis = _time(stage, work, workers, rates)
    return Demand(
        stage.node, work.said, tflop, compute, workers, hours, basis, _restart(stage), _checkpoint_minutes(stage)
    )


def _time(stage: Stage, work: Work, workers: int | None, rates: Rates | None) -> tuple[float | None, float | None, str]:
    """Return operations, hours of wall time, and what these rest on."""
    counted = work.count() if work.count else None
    tflop = counted.tflop if counted else None
    found = rates.hours(stage.node, work, stage.compute, workers) if rates else None
    if found:
        return tflop, *found
    if work.amount == 0:
        return tflop, 0.0, "nothing to do"
    if counted:
        hours, basis = counted.hours()
        return tflop, None if hours is None else hours / (workers or 1), basis
    if work.amount is None and stage.compute:
        return None, None, "no time: its rows are known after ingest"
    why = rates.unused.get(stage.node) if rates else None
    return None, None, f"no time: measured in no run like it{f' ({why})' if why else ''}"


def _restart(stage: Stage) -> Restart | None:
    """Say how a stage goes on where a machine is taken away; the others begin anew."""
    return "pieces" if stage.resumable else "checkpoints" if stage.is_gang else None


def _checkpoint_minutes(stage: Stage) -> float | None:
    optimizer: Any = getattr(stage.config, "optimizer", None)
    return optimizer.checkpoint_minutes if stage.is_gang and optimizer else None


def rates_of(run: str) -> Rates:
    """Take the rates of a run folder, finished or not.

    Args:
        run: a path or URI.

    Raises:
        ConfigError, InputError: when that isn't a run folder, or its configuration can't be read any more.
    """
    store = Store.open(run)
    where = f"{store.uri}/config.yaml"
    config = validate(parse(read(store, "config.yaml"), where), f"{where}: ")
    runner = new_runner(config, run)
    keys = {node: entry["key"] for node, entry in read_summary(run)["nodes"].items() if entry["key"]}
    loaded = {
        stage.node: (stage, runner.load(stage.node, keys[stage.node])) for stage in runner.stages if stage.node in keys
    }
    nodes = {node: (stage, manifest) for node, (stage, manifest) in loaded.items() if manifest}
    return measured_in(store.uri, config, nodes)


def own_rates(run: str) -> Rates | None:
    """Take the rates of the run folder that is planned, where it has any that can still be read."""
    store = Store.open(run)
    if not (store.exists("config.yaml") and store.exists("summary.json")):
        return None
    try:
        return rates_of(run)
    except ConfigError:
        # Another version's settings: the plan makes it anew.
        return None
