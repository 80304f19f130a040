"""Train a diffusion model: the teacher on real images, the student on kept samples. One stage, two inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raydistill.core.config import Config
from raydistill.core.rows import Rows
from raydistill.core.store import Store
from raydistill.core.training import FRESH, DiffusionConfig
from raydistill.diffusion.folder import MARKER
from raydistill.diffusion.objective import DiffusionObjective
from raydistill.diffusion.preview import Grid
from raydistill.diffusion.rows import LatentRows
from raydistill.distributed.job import Guard, Preview, TrainJob, check_tracking, check_training, where
from raydistill.distributed.stream import Stream
from raydistill.distributed.train import export_checkpoint, train
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.encode import sizes

WINDOW_BYTES = 64 * 2**20
"""Rows are shuffled within windows of about this size, or of a shard where that is larger; a reader holds two."""


class TrainDiffusion(Stage):
    """Inputs: `initial`, `rows`, optionally `calibration`, as `Encode` wrote them. Output: `model/`, `history.json`."""

    version: ClassVar[int] = 7
    is_gang: ClassVar[bool] = True
    config: DiffusionConfig

    def check(self, config: Config) -> None:
        """Refuse a batch that can't be shared out, and a service that can't be reached."""
        check_training(self.config.optimizer, self.config.deepspeed, self.config.compute)
        check_tracking(config.tracking)

    def key_config(self) -> dict[str, Any]:
        """Leave out how weights are found, for the input `initial` is what they are, and a guard that sees nothing."""
        elsewhere = {"pretrained", "local_files_only", *FRESH} - set(sizes(self.config))
        if "calibration" not in self.inputs:
            elsewhere.add("guard")
        return {name: value for name, value in super().key_config().items() if name not in elsewhere}

    def run(self, context: Context) -> Outcome:
        """Stream the encoded rows through the training loop; export a Stable Diffusion folder."""
        index = context.inputs["rows"].read_json("index.json")
        job = TrainJob(
            make_objective=self._make_objective(context),
            optimizer=self.config.optimizer,
            deepspeed=self.config.deepspeed,
            compute=self.config.compute,
            ema_decay=self.config.ema_decay,
            out=context.out,
            weights="model",
            work=context.work,
            name=self.node,
            seed=context.seed,
            logs=context.logs,
            tracking=context.tracking,
            stream=stream_of(context.inputs["rows"], _shards(index), self.config.optimizer.batch_size, context.seed),
            guard=self._guard(context, index),
            preview=Preview(Grid(index["common"], self.config.compute.device), self.config.preview_every),
        )
        history = train(job, context.cluster.max_failures, context.progress, context.cluster.resize_s)
        facts = self._mark(context, context.out / "model") | {
            "notes": _notes(history),
            **where(self.config.deepspeed, self.config.compute),
        }
        return Outcome(counts={"images": index["rows"]}, facts=_course(history, self.config, index["rows"]) | facts)

    def _make_objective(self, context: Context) -> Callable[[], DiffusionObjective]:
        return partial(objective_of, context.inputs["initial"], self.config, context.seed)

    def write_checkpoint(self, context: Context, folder: Path) -> int:
        """Write a Stable Diffusion folder, marked like the one that the training would end with."""
        steps = export_checkpoint(self._make_objective(context)(), context.work, folder)
        self._mark(context, Store.open(str(folder)))
        return steps

    def _mark(self, context: Context, model: Store) -> dict[str, Any]:
        """Mark a folder, and each part that was trained, with what it has seen; return what they started from."""
        known = context.manifests["rows"].facts
        said = {name: known[name] for name in ("has_seen_real_data", "started_from")}
        mark = {"trained_on": _touched(context), **said}
        parts = ("unet", "text_encoder") if self.config.train_text_encoder else ("unet",)
        for part in ("", *parts):
            (model / part).write_json(MARKER, mark)
        return said

    def _guard(self, context: Context, index: Mapping[str, Any]) -> Guard | None:
        """Hold the training against calibration images where there are some."""
        other = context.inputs.get("calibration")
        if other is None or not other.exists("index.json"):
            return None
        others = other.read_json("index.json")
        count = min(self.config.guard.images, index["rows"], others["rows"])
        sides = {"train": (context.inputs["rows"], _shards(index)), "calibration": (other, _shards(others))}
        return Guard(GuardRows(sides, count, context.seed), self.config.guard)


@dataclass(frozen=True)
class GuardRows:
    """Reads as many rows of each side: (folder, shards) by name."""

    sides: Mapping[str, tuple[Store, tuple[tuple[str, int], ...]]]
    count: int
    seed: int

    def __call__(self) -> dict[str, Rows]:
        """Return the rows by side."""
        return {
            name: LatentRows(store).some(shards, self.count, self.seed) for name, (store, shards) in self.sides.items()
        }


def stream_of(store: Store, shards: tuple[tuple[str, int], ...], batch_size: int, seed: int) -> Stream:
    """Return encoded rows in a seeded order.

    Args:
        store: the rows, as `Encode` writes them.
        shards: name and number of rows of each.
        batch_size: rows of a step.
        seed: of the order.
    """
    rows = LatentRows(store)
    size = sum(column.nbytes for column in rows(shards[0][0]).values()) / shards[0][1]
    return Stream(shards, rows, batch_size, seed, max(batch_size, int(WINDOW_BYTES / size)))


def objective_of(initial: Store, config: DiffusionConfig, seed: int) -> DiffusionObjective:
    """Return what a model learns that starts from a folder."""
    return DiffusionObjective(initial.keep_local(), config, seed)


def _shards(index: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(index["shards"].items()))


def _touched(context: Context) -> list[str]:
    """Name the nodes whose images the weights have seen, through their encoding."""
    return sorted({entry.node for entry in context.manifests["rows"].inputs.values()})


def _course(history: Mapping[str, Any], config: DiffusionConfig, rows: int) -> dict[str, Any]:
    """Say how the training went: loss, epochs, and the gap between its own images and others."""
    steps = history["loss"][-1][0]
    course = {"final_loss": history["loss"][-1][1], "steps": steps, "stopped": history["stopped"]}
    if history["gap"]:
        _, train_loss, calibration_loss = history["gap"][-1]
        course["final_gap"] = round(calibration_loss / train_loss - 1, 4)
        course["largest_gap"] = round(float(np.max([c / t - 1 for _, t, c in history["gap"]])), 4)
    return course | {"epochs": round(steps * config.optimizer.batch_size / rows, 1)}


def _notes(history: Mapping[str, Any]) -> list[str]:
    return [f"stopped early at {history['stopped']}"] if history["stopped"] else []
