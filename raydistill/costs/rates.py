"""How fast stages were in a run that is there: seconds a unit of work, by its manifests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raydistill.core.config import Config
from raydistill.core.manifest import Manifest
from raydistill.core.section import Compute
from raydistill.core.spending import duration
from raydistill.costs.stages import work_of
from raydistill.costs.work import Counts, Known, Work, counts_of
from raydistill.stages.base import Stage


@dataclass(frozen=True)
class Measured:
    """One finished node of a run.

    Attributes:
        node: its name.
        work: what it did.
        compute: of a worker; None on the driver.
        workers: that ran at once; None where nobody knows.
        seconds: of wall time.
    """

    node: str
    work: Work
    compute: Compute | None
    workers: int | None
    seconds: float


@dataclass(frozen=True)
class Rates:
    """What was measured in one run.

    Attributes:
        run: its name for the reader, a path or URI.
        config: it was made with.
        counts: of its nodes.
        measured: its finished nodes, by name.
        unused: nodes that tell nothing of how long they take, and why.
    """

    run: str
    config: Config
    counts: Counts
    measured: Mapping[str, Measured]
    unused: Mapping[str, str]

    def hours(self, node: str, work: Work, compute: Compute | None, workers: int | None) -> tuple[float, str] | None:
        """Return the hours of wall time of a work, and what that rests on; None where nothing like it was measured.

        The same node is taken where it did the same kind of work, else another one that did.

        Args:
            node: whose work it is.
            work: with a known amount.
            compute: where it would run.
            workers: how many at once.
        """
        for found in sorted(self.measured.values(), key=lambda one: one.node != node):
            if not self._tells(found, work, compute, workers):
                continue
            share = (work.amount or 0.0) / (found.work.amount or 1.0)
            if work.has_fixed_part:
                share = max(1.0, share)
            scale = found.workers / workers if found.workers and workers else 1.0
            hours = found.seconds * share * scale / 3600
            done = f"{found.work.amount:,.0f} {found.work.unit} in {duration(found.seconds / 3600)}"
            return hours, f"measured: {self.run.rsplit('/', 1)[-1]}/{found.node}, {done}"
        return None

    def _tells(self, found: Measured, work: Work, compute: Compute | None, workers: int | None) -> bool:
        if found.work.alike != work.alike or not found.work.amount or work.amount is None:
            return False
        if not found.compute or not compute:
            return found.compute == compute
        # How many workers an elastic stage really had isn't written down.
        was_elastic = found.compute.min_workers < found.compute.max_workers
        if was_elastic and found.compute.workers != compute.workers:
            return False
        return hardware(found.compute) == hardware(compute)


def hardware(compute: Compute) -> dict[str, Any]:
    """Return what must be equal for a rate to hold on other workers; without a GPU's name, the nodes' labels too."""
    if not compute.num_gpus:
        return {"cpus": compute.num_cpus, "labels": compute.label_selector}
    named = {"gpus": compute.num_gpus, "kind": compute.accelerator_type}
    return named if compute.accelerator_type else named | {"labels": compute.label_selector}


def workers_of(work: Work, compute: Compute | None, config: Config) -> int | None:
    """Return how many workers do a work at once; None where that depends on the cluster's GPUs.

    Args:
        work: says whether all, one, or as many as there is room for.
        compute: of a worker.
        config: has the size of the local Ray, which stands for the cluster's.
    """
    if compute is None or work.workers == "one":
        return 1
    if work.workers == "all":
        return compute.max_workers
    return None if compute.num_gpus else max(1, int(config.cluster.num_cpus / compute.num_cpus))


def measured_in(run: str, config: Config, nodes: Mapping[str, tuple[Stage, Manifest]]) -> Rates:
    """Take the rates of a run.

    Args:
        run: its name for the reader.
        config: it was made with.
        nodes: each finished node, as that configuration wires it, and its manifest.
    """
    counts = {node: counts_of(manifest) for node, (_, manifest) in nodes.items()}
    known, measured, unused = Known(config, counts), {}, {}
    for node, (stage, manifest) in nodes.items():
        if why := _tells_nothing(stage, manifest):
            unused[node] = why
            continue
        work, compute = _done(work_of(stage, known), stage, manifest), _compute_of(stage, manifest)
        workers = workers_of(work, compute, config)
        measured[node] = Measured(node, work, compute, workers, manifest.seconds)
    return Rates(run, config, counts, measured, unused)


def _tells_nothing(stage: Stage, manifest: Manifest) -> str | None:
    if manifest.skipped:
        return "it was skipped"
    if manifest.resumed:
        return "it went on after an interruption, and its seconds aren't all"
    if manifest.version != stage.version:
        return f"it is of version {manifest.version} of its stage, this is {stage.version}"
    return None


def _done(work: Work, stage: Stage, manifest: Manifest) -> Work:
    """Return what was really done: a training may have stopped early."""
    steps = manifest.facts.get("steps")
    if steps is None or work.amount is None:
        return work
    return replace(work, amount=float(steps * stage.config.optimizer.batch_size))  # type: ignore[attr-defined]


def _compute_of(stage: Stage, manifest: Manifest) -> Compute | None:
    """Say where it ran: by the manifest, as older ones say it of trainings, else by the run's configuration."""
    said = manifest.compute or manifest.facts.get("compute")
    return Compute.model_validate(said) if said else stage.compute
