"""What a stage is: a node's name, a version, a frozen configuration, named inputs, and a `run` that fills one folder.

An input is a *view*: one folder of another node's artifact. Keys and lineage are made of views, so a stage depends
on exactly what it reads: the teacher on `ingest/train`, not on the evaluation patients beside it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from raydistill.core.config import ClusterConfig, Config
from raydistill.core.errors import InputError
from raydistill.core.manifest import Manifest
from raydistill.core.progress import Progress, Standings, silent, unseen
from raydistill.core.section import NOT_IN_KEY, Compute
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.core.training import TrackingConfig


@dataclass(frozen=True)
class View:
    """One folder of the artifact that a node writes."""

    node: "Stage"
    folder: str


@dataclass
class Context:
    """What a running stage is given.

    Args:
        inputs: a read-only `Store` per named input, already at the view's folder.
        out: the artifact's folder; empty when the stage starts.
        work: scratch that survives a kill and is deleted once the manifest is written: checkpoints, finished shards.
        seed: the node's own seed.
        manifests: the manifest of the artifact behind each input.
        logs: where to write what people watch; no part of any artifact.
        tracking: other places to send it to.
        cluster: how many failures to survive.
        progress: reports how far the stage is.
        standings: shows what a search has found so far.
        private_seed: another seed of the node's, that nobody outside the run folder can derive.
        private_key: 32 bytes of the node's that nobody outside can derive either.
    """

    inputs: Mapping[str, Store]
    out: Store
    work: Store
    seed: int
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    logs: Store | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    progress: Progress = silent
    standings: Standings = unseen
    private_seed: int = 0
    private_key: bytes = field(default=b"", repr=False)

    def silent(self) -> "Context":
        """Return the same for a worker: what reaches the terminal can't leave the driver."""
        return replace(self, progress=silent, standings=unseen)


@dataclass(frozen=True)
class Outcome:
    """What a stage says about its artifact: row counts, and facts for the manifest, the report and the summary."""

    counts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Stage(ABC):
    """One node of the pipeline.

    Args:
        node: the node's name, unique in a pipeline, also its folder in the run.
        config: the part of the configuration that decides the result.
        inputs: views by the name under which `run` finds them.
        seed: the run's seed; the node's own is derived from it.
    """

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = False
    """Whether files left in `out` by a killed attempt are finished shards to go on from; otherwise they are cleared."""
    accepts_skipped: ClassVar[bool] = False
    """Whether the stage runs although one of its inputs was skipped."""
    is_gang: ClassVar[bool] = False
    """Whether all workers must run at once, as in training; a pool of actors makes do with one."""

    def __init__(self, node: str, config: BaseModel, inputs: Mapping[str, View], seed: int) -> None:
        """Bind a configuration and inputs to a node's name."""
        self.node = node
        self.config = config
        self.inputs = dict(inputs)
        self.root_seed = seed

    @property
    def compute(self) -> Compute | None:
        """What the stage asks of the cluster; None for what runs on the driver."""
        return getattr(self.config, "compute", None)

    def asks(self) -> dict[str, Compute]:
        """Return all that the stage asks of the cluster, one after another, by what it is for."""
        return {self.node: self.compute} if self.compute else {}

    @property
    def needs_ray(self) -> bool:
        """Whether `run` asks Ray for workers; the others run on the driver, before Ray starts where they are first."""
        return self.compute is not None

    def check(self, config: Config) -> None:  # noqa: B027 (most stages have nothing to refuse)
        """Refuse what can be known to be wrong before anything is started.

        Args:
            config: the whole configuration; the stage's own part is `self.config`.

        Raises:
            ConfigError, InputError: what is wrong, where, and what to do.
        """

    @property
    def seed(self) -> int:
        """The node's own seed."""
        return derive_seed(self.root_seed, self.node)

    def key_config(self) -> dict[str, Any]:
        """Return the resolved configuration that is part of the key: all of it but where it runs."""
        return {"seed": self.seed, **_what_decides(self.config)}

    def __getitem__(self, folder: str) -> View:
        """Return the view of one folder of this node's artifact."""
        return View(self, folder)

    def sources(self) -> list["Stage"]:
        """Return all nodes that this one reads, itself or through others, each after those that it reads."""
        found: dict[str, Stage] = {}
        for view in self.inputs.values():
            found |= {stage.node: stage for stage in (*view.node.sources(), view.node) if stage.node not in found}
        return list(found.values())

    def is_like(self, other: "Stage") -> bool:
        """Whether another node is of the same kind, configured in the same way, and reads nodes of the same names."""
        kinds, configs = (type(self), type(other)), (self.config, other.config)
        reads = [{name: (view.node.node, view.folder) for name, view in one.inputs.items()} for one in (self, other)]
        return kinds[0] is kinds[1] and configs[0] == configs[1] and reads[0] == reads[1] and self.seed == other.seed

    @abstractmethod
    def run(self, context: Context) -> Outcome:
        """Fill `context.out` from `context.inputs`."""

    def write_checkpoint(self, context: Context, folder: Path) -> int:
        """Write the last checkpoint of a run that isn't finished as what its end would have been.

        Args:
            context: of that run.
            folder: where to write.

        Returns:
            The number of steps taken.

        Raises:
            InputError: when there is none.
        """
        raise InputError(f"{self.node} isn't a training: it has no checkpoints")


def _what_decides(value: Any) -> Any:
    """Leave out the fields that don't decide, of sections alone: what somebody's own part is given is all its own."""
    if isinstance(value, BaseModel):
        fields = [name for name in type(value).model_fields if name not in NOT_IN_KEY]
        return {name: _what_decides(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {name: _what_decides(inner) for name, inner in value.items()}
    return [_what_decides(inner) for inner in value] if isinstance(value, list | tuple) else to_jsonable_python(value)
