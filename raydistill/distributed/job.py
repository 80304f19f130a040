"""What a training is: an objective, how long and how, where its results go. What the one loop runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.errors import ConfigError
from raydistill.core.rows import Rows
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import GuardConfig, OptimizerConfig, TrackingConfig
from raydistill.distributed.settings import check_settings, settings
from raydistill.distributed.stream import Parts, Stream

RUN, STOPPED = "train", "stopped.json"
"""In a job's `work`: Ray Train's folder of checkpoints; why a training ended that must not be tried again."""


class Objective(Protocol):
    """What to learn. Built on every worker; all its randomness comes from its seed and the step."""

    def build(self) -> nn.Module:
        """Return the module to train, with the same weights on every worker."""

    def loss(self, model: nn.Module, step: int, part: slice, rows: Rows) -> Tensor:
        """Return the mean loss over a part of the global batch of a step.

        Args:
            model: what `build` returned, possibly wrapped; call it, don't reach inside.
            step: which global batch; negative ones are those of a guard.
            part: positions of the global batch.
            rows: the rows of these positions where the job has a stream, else empty.
        """

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the trained module, whole and on the CPU, as the files that other stages and people read."""


def check_training(optimizer: OptimizerConfig, deepspeed: DeepSpeedConfig, compute: Compute) -> None:
    """Refuse what no training can do.

    Raises:
        ConfigError: when a batch has fewer rows than parts, half precision has no hardware, or DeepSpeed refuses its
            own settings.
    """
    micros = deepspeed.micros(optimizer.batch_size, compute.max_workers)
    needed = compute.max_workers * micros
    if optimizer.batch_size < needed:
        raise ConfigError(
            f"optimizer.batch_size {optimizer.batch_size} has no row for each of {compute.max_workers} workers x "
            f"{micros} gradient_accumulation_steps: raise it to {needed} or more"
        )
    if deepspeed.override:
        check_settings(settings(deepspeed, Parts(optimizer.batch_size, compute.max_workers, micros), 1))
    if compute.max_workers > 1 and compute.num_gpus % 1:
        raise ConfigError(f"compute.num_gpus {compute.num_gpus}: several workers of a training can't share a GPU")
    if deepspeed.precision == "fp16" and not compute.num_gpus:
        raise ConfigError("deepspeed.precision fp16 needs a GPU (compute.num_gpus): on a CPU take fp32 or bf16")


def check_tracking(config: TrackingConfig) -> None:
    """Refuse a service whose library isn't installed.

    Raises:
        ConfigError: with the line that installs it.
    """
    for name in ("wandb", "mlflow"):
        if getattr(config, name) is not None and find_spec(name) is None:
            raise ConfigError(f"tracking.{name} needs a library that isn't installed: pip install {name}")


def where(deepspeed: DeepSpeedConfig, compute: Compute) -> dict[str, Any]:
    """Say for a manifest how a training was held and where it ran, most of which is no part of its key."""
    return {"deepspeed": deepspeed.model_dump(mode="json"), "compute": compute.model_dump(mode="json")}


@dataclass(frozen=True)
class Guard:
    """Watches whether a model does better on what it learns from than on others of the same kind.

    Args:
        rows: gives `train` and `calibration`, as many rows each; called on every worker.
        config: how often, and which gap stops the training.
    """

    rows: Callable[[], Mapping[str, Rows]]
    config: GuardConfig


@dataclass(frozen=True)
class Preview:
    """Pictures of how a training goes.

    Args:
        draw: given an exported folder, returns one uint8 (H, W) picture.
        every: steps between two of them.
    """

    draw: Callable[[Path], NDArray[np.uint8]]
    every: int


@dataclass(frozen=True)
class TrainJob:
    """One training, resumable by running it again.

    Args:
        make_objective: picklable; called on each worker.
        optimizer: steps, batch, schedule, checkpoints.
        deepspeed: ZeRO stage, precision, accumulation, clipping.
        compute: how many workers of what size.
        ema_decay: keep and export an exponential moving average of the weights; None exports the weights.
        out: where `export`'s files go, with `history.json` beside them.
        weights: the folder in `out` for `export`'s files.
        work: where checkpoints live until the artifact is complete.
        name: of the training, such as `teacher`, where it is watched.
        seed: of what is random in the module itself, such as dropout.
        logs: where to write what people watch; None writes nothing.
        tracking: other places to send it to.
        stream: the rows to learn from; None where the objective has its own.
        guard: what to hold the training against; None for nothing.
        preview: what to draw on the way; None for nothing.
    """

    make_objective: Callable[[], Objective]
    optimizer: OptimizerConfig
    deepspeed: DeepSpeedConfig
    compute: Compute
    ema_decay: float | None
    out: Store
    weights: str
    work: Store
    name: str = "training"
    seed: int = 0
    logs: Store | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    stream: Stream | None = None
    guard: Guard | None = None
    preview: Preview | None = None
