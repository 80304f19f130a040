"""Training loops side by side: raydistill's own, and what one would write in plain PyTorch. Never two at a time.

Every loop is a process of its own with one thread. After each block of steps it hands over to the next loop, so that
whatever else the machine does falls on all of them alike.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from numpy.typing import NDArray
from torch import Tensor, nn
from train_models import Material
from train_turns import Clocks, Turns

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.rows import Rows
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.diffusion.components import encode_images, load
from raydistill.diffusion.objective import DiffusionObjective
from raydistill.distributed.job import Objective, TrainJob
from raydistill.distributed.stream import Stream
from raydistill.distributed.train import train

BARE, ENCODING = "bare loop", "encodes at every step"

SAME = 1e-3
"""Largest relative difference of mean losses: latents encoded once are kept in half precision."""


@dataclass(frozen=True)
class Pace:
    """Blocks, and steps of each. The first block and the first `warm` steps of the others don't count."""

    blocks: int
    steps: int
    warm: int = 2


@dataclass(frozen=True)
class Speed:
    """Seconds a row in each block that counts, by the wall and by the process; the mean loss of all steps."""

    wall: NDArray[np.float64]
    process: NDArray[np.float64]
    loss: float


def clocks() -> Clocks:
    """Seconds by the wall, and of computing in this process, on all of its threads."""
    return time.monotonic(), time.process_time()


class Timed:
    """An objective that counts time from step to step, and computes only when it is its turn."""

    def __init__(self, inner: Objective, name: str, turns: Any, pace: Pace) -> None:
        self.inner, self.name, self.turns, self.pace = inner, name, turns, pace
        self.build, self.export = inner.build, inner.export
        self.start: Clocks | None = None

    def loss(self, model: nn.Module, step: int, part: slice, rows: Rows) -> Tensor:
        """Return the inner loss."""
        now, at = clocks(), step % self.pace.steps
        if at == 0:
            seconds = self.start and tuple(np.subtract(now, self.start))
            ray.get(self.turns.pass_on.remote(self.name, seconds))
        if at == self.pace.warm:
            self.start = clocks()
        return self.inner.loss(model, step, part, rows)


class EncodingObjective(DiffusionObjective):
    """Encodes images and prompts at every step, as diffusers' `train_text_to_image.py` does."""

    def build(self) -> nn.Module:
        """Load the frozen parts as well."""
        self.frozen = load(self.initial)
        return super().build()

    def loss(self, model: nn.Module, step: int, part: slice, rows: Rows) -> Tensor:
        """Encode, then return the loss; rows hold `images` and `ids`."""
        latents = encode_images(self.frozen.vae, rows["images"])
        with torch.no_grad():
            words = self.frozen.text_encoder(torch.from_numpy(rows["ids"])).last_hidden_state.numpy()
        return super().loss(model, step, part, {"latents": latents, "words": words})


def bare(make: Callable[[], Objective], material: Material, stream: Stream, steps: int) -> float:
    """Train in plain PyTorch on rows that are already in memory, and return the mean loss."""
    torch.set_num_threads(1)
    objective, how = make(), material.config.optimizer.model_copy(update={"steps": steps})
    model = objective.build()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=how.lr, weight_decay=how.weight_decay)
    schedule = get_scheduler(how.schedule, optimizer, num_warmup_steps=how.warmup, num_training_steps=steps)
    average = EMAModel(learning, decay=material.config.ema_decay, use_ema_warmup=True, foreach=True)
    seen = []
    for step, rows in enumerate(_batches(stream, steps)):
        loss = objective.loss(model, step, slice(0, how.batch_size), rows)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learning, material.config.deepspeed.gradient_clipping)
        optimizer.step()
        schedule.step()
        average.step(learning)
        seen.append(loss.detach())
    return float(torch.stack(seen).mean())


def _batches(stream: Stream, steps: int) -> Iterator[Rows]:
    rows, size = stream.rows(0, steps * stream.batch_size), stream.batch_size
    for start in range(0, steps * size, size):
        yield {name: column[start : start + size] for name, column in rows.items()}


def product(make: Callable[[], Objective], material: Material, zero_stage: int, steps: int, folder: Path) -> float:
    """Train with raydistill, logging as by default, and return the mean loss. No checkpoint falls into the time."""
    store, how = Store.open(str(folder)), material.config.optimizer
    never = {"checkpoint_every": 10**9, "checkpoint_minutes": 10.0**9}
    job = TrainJob(
        make_objective=make,
        optimizer=how.model_copy(update={"steps": steps, **never}),
        deepspeed=DeepSpeedConfig(zero_stage=zero_stage),
        compute=Compute(num_workers=1),
        ema_decay=material.config.ema_decay,
        out=store / "out",
        weights="model",
        work=store / "work",
        logs=store / "logs",
        stream=material.encoded(),
    )
    points = np.array(train(job, max_failures=0)["loss"])
    return float(np.average(points[:, 1], weights=np.diff(points[:, 0], prepend=0)))


def side_by_side(
    material: Material, pace: Pace, zero_stages: tuple[int, ...], encoding: bool, folder: Path
) -> dict[str, Speed]:
    """Run a plain loop and raydistill's at several ZeRO stages, block by block in turn.

    Args:
        material: what is learned.
        pace: blocks and steps.
        zero_stages: of raydistill's loops.
        encoding: whether the plain loop encodes at every step.
        folder: for raydistill's outputs.

    Returns:
        By loop, the plain one first.
    """
    plain = ENCODING if encoding else BARE
    names, steps = [plain, *(f"ZeRO-{stage}" for stage in zero_stages)], pace.blocks * pace.steps + 1
    turns = ray.remote(num_cpus=0)(Turns).remote(names, pace.blocks)
    kinds = {plain: EncodingObjective if encoding else DiffusionObjective}
    make = {name: partial(_timed, kinds.get(name, DiffusionObjective), material, name, turns, pace) for name in names}
    stream = material.pixels() if encoding else material.encoded()
    work = {plain: lambda: ray.get(ray.remote(num_cpus=1)(bare).remote(make[plain], material, stream, steps))}
    for name, stage in zip(names[1:], zero_stages, strict=True):
        work[name] = partial(product, make[name], material, stage, steps, folder / name)
    with ThreadPoolExecutor() as threads:
        started = {name: threads.submit(_all_or_none, run, turns) for name, run in work.items()}
    losses = {name: future.result() for name, future in started.items()}
    rows = (pace.steps - pace.warm) * material.config.optimizer.batch_size
    if not np.allclose(list(losses.values()), losses[plain], rtol=SAME):
        raise RuntimeError(f"the loops don't learn the same, so their times say nothing: mean losses {losses}")
    taken = {name: np.array(blocks[1:]) / rows for name, blocks in ray.get(turns.taken.remote()).items()}
    return {name: Speed(taken[name][:, 0], taken[name][:, 1], losses[name]) for name in names}


def _timed(kind: type[DiffusionObjective], material: Material, name: str, turns: Any, pace: Pace) -> Timed:
    return Timed(kind(material.folder.keep_local("initial"), material.config, 0), name, turns, pace)


def _all_or_none(run: Callable[[], float], turns: Any) -> float:
    """Run one loop; if it fails, the others, which would wait for it, fail too."""
    try:
        return run()
    except Exception:
        ray.kill(turns)
        raise
