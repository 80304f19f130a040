"""The one training loop: Ray Train starts the workers, DeepSpeed ZeRO holds the state, an objective says what to learn.

A batch is a function of (seed, step) and of nothing else. That makes the position in the data part of the step
counter: a resumed run sees the batches an unbroken one would have seen, whatever the number of workers.
"""

import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from raydistill.core.config import ClusterConfig, Compute, DeepSpeedConfig, OptimizerConfig
from raydistill.core.errors import ConfigError, TrainingError
from raydistill.core.progress import Progress
from raydistill.core.store import Store
from raydistill.distributed.session import board, root_cause

POST_EVERY_S = 1.0
HISTORY_POINTS = 200


class Objective(Protocol):
    """What to learn. Built on every worker; all its randomness comes from its seed and the step."""

    def build(self) -> torch.nn.Module:
        """Return the module to train, with the same weights on every worker."""

    def loss(self, model: torch.nn.Module, step: int, part: slice) -> torch.Tensor:
        """Return the mean loss over this worker's part of the global batch of a step.

        Args:
            model: what `build` returned, possibly wrapped; call it, don't reach inside.
            step: which global batch.
            part: positions of the global batch that are this worker's.
        """

    def export(self, model: torch.nn.Module, folder: Path) -> None:
        """Write the trained module as the files that other stages and people read."""


@dataclass(frozen=True)
class TrainJob:
    """One training, resumable by running it again.

    Args:
        make_objective: picklable; called on each worker.
        optimizer: steps, batch, schedule, checkpoints.
        deepspeed: ZeRO stage, precision, clipping.
        compute: how many workers of what size.
        ema_decay: keep and export an exponential moving average of the weights; None exports the weights.
        out: where `export`'s files go, with `history.json` beside them.
        weights: the folder in `out` for `export`'s files.
        work: where checkpoints live until the artifact is complete.
    """

    make_objective: Callable[[], Objective]
    optimizer: OptimizerConfig
    deepspeed: DeepSpeedConfig
    compute: Compute
    ema_decay: float | None
    out: Store
    weights: str
    work: Store


def train(job: TrainJob, cluster: ClusterConfig, progress: Progress) -> dict[str, Any]:
    """Run a training to its end, from its last checkpoint if there is one.

    Args:
        job: what to train and where.
        cluster: how many failures of the worker group to survive.
        progress: told the steps done.

    Returns:
        The content of `history.json`.

    Raises:
        ConfigError: when the batch doesn't divide by the workers.
        TrainingError: when the loss isn't finite, or the workers failed too often.
    """
    from ray import exceptions
    from ray import train as ray_train
    from ray.train.torch import TorchConfig, TorchTrainer

    workers = job.compute.num_workers
    share_of_batch(job.optimizer, job.compute)
    job.work.make()
    with board(progress) as news:
        trainer = TorchTrainer(
            _loop,
            train_loop_config={"job": job, "board": news},
            torch_config=TorchConfig(backend="nccl" if job.compute.num_gpus else "gloo"),
            scaling_config=ray_train.ScalingConfig(
                num_workers=workers, use_gpu=job.compute.num_gpus > 0, resources_per_worker=resources(job.compute)
            ),
            run_config=ray_train.RunConfig(
                # ZeRO checkpoints belong to a world size: another one starts anew rather than fail to load.
                name=f"train-{workers}",
                storage_path=job.work.path,
                storage_filesystem=job.work.filesystem,
                checkpoint_config=ray_train.CheckpointConfig(num_to_keep=1),
                failure_config=ray_train.FailureConfig(max_failures=cluster.max_failures),
            ),
        )
        try:
            trainer.fit()
        except (ray_train.TrainingFailedError, exceptions.RayError) as error:
            raise TrainingError(f"training failed: {root_cause(error)}") from error
    history: dict[str, Any] = job.out.read_json("history.json")
    return history


def share_of_batch(optimizer: OptimizerConfig, compute: Compute) -> int:
    """Return how many rows of a global batch are one worker's.

    Raises:
        ConfigError: when the batch doesn't divide by the workers.
    """
    share, rest = divmod(optimizer.batch_size, compute.num_workers)
    if rest:
        raise ConfigError(
            f"optimizer.batch_size {optimizer.batch_size} isn't divisible by compute.num_workers {compute.num_workers}"
        )
    return share


def resources(compute: Compute) -> dict[str, float]:
    """Translate a stage's compute section into what Ray reserves for one worker."""
    return {"CPU": compute.num_cpus} | ({"GPU": compute.num_gpus} if compute.num_gpus else {})


def _loop(config: dict[str, Any]) -> None:
    from ray import train as ray_train

    job: TrainJob = config["job"]
    context = ray_train.get_context()
    rank = context.get_world_rank()
    torch.set_num_threads(max(1, int(job.compute.num_cpus)))
    objective = job.make_objective()
    engine, ema = _prepare(objective, job)
    start, history = _restore(engine, ema)
    share = share_of_batch(job.optimizer, job.compute)
    part = slice(rank * share, (rank + 1) * share)
    recorded, posted = [], 0.0
    for step in range(start, job.optimizer.steps):
        loss = objective.loss(engine, step, part)
        engine.backward(loss)
        engine.step()
        if ema is not None:
            ema.step(engine.module.parameters())
        recorded.append(float(loss.detach()))
        if not math.isfinite(recorded[-1]):
            raise TrainingError(f"the loss was {recorded[-1]} at step {step}: lower the learning rate")
        if rank == 0 and time.monotonic() - posted > POST_EVERY_S:
            posted = time.monotonic()
            config["board"].post.remote(step + 1, job.optimizer.steps, "steps")
        if (step + 1) % job.optimizer.checkpoint_every == 0 and step + 1 < job.optimizer.steps:
            history, recorded = history + _condense(step, recorded, job.optimizer.steps), []
            _checkpoint(engine, ema, step + 1, history, rank)
    if rank == 0:
        history += _condense(job.optimizer.steps - 1, recorded, job.optimizer.steps)
        _export(objective, engine.module, ema, job, history)
    ray_train.report({})


def _prepare(objective: Objective, job: TrainJob) -> tuple[Any, Any]:
    """Wrap the objective's module in a DeepSpeed engine, with its optimizer, schedule and moving average."""
    os.environ["DS_ACCELERATOR"] = job.compute.device
    import deepspeed
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    # Only tensor-parallel inference uses this op, and building it needs a C++ compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel("ERROR")
    module, options = objective.build(), job.optimizer
    ema = EMAModel(module.parameters(), decay=job.ema_decay, use_ema_warmup=True) if job.ema_decay else None
    optimizer = torch.optim.AdamW(module.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    schedule = get_scheduler(
        options.schedule, optimizer, num_warmup_steps=options.warmup_steps, num_training_steps=options.steps
    )
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        lr_scheduler=schedule,
        dist_init_required=False,
        config={
            "train_micro_batch_size_per_gpu": share_of_batch(options, job.compute),
            "gradient_clipping": job.deepspeed.gradient_clipping,
            "zero_optimization": {"stage": job.deepspeed.zero_stage},
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": job.deepspeed.precision == "bf16"},
        },
    )
    if ema is not None:
        ema.to(engine.device)
    return engine, ema


def _checkpoint(engine: Any, ema: Any, step: int, history: list[Any], rank: int) -> None:
    from ray import train as ray_train

    with tempfile.TemporaryDirectory(prefix="raydistill-") as folder:
        engine.save_checkpoint(folder, tag="zero")
        if rank == 0:
            torch.save(ema.state_dict() if ema is not None else {}, f"{folder}/ema.pt")
            Path(folder, "progress.json").write_text(json.dumps({"step": step, "history": history}))
        ray_train.report({"step": step}, checkpoint=ray_train.Checkpoint.from_directory(folder))


def _restore(engine: Any, ema: Any) -> tuple[int, list[Any]]:
    from ray import train as ray_train

    checkpoint = ray_train.get_checkpoint()
    if checkpoint is None:
        return 0, []
    with checkpoint.as_directory() as folder:
        engine.load_checkpoint(folder, tag="zero")
        if ema is not None:
            ema.load_state_dict(torch.load(f"{folder}/ema.pt", map_location=engine.device, weights_only=True))
        progress = json.loads(Path(folder, "progress.json").read_text())
    return progress["step"], progress["history"]


def _export(objective: Objective, module: torch.nn.Module, ema: Any, job: TrainJob, history: list[Any]) -> None:
    if ema is not None:
        ema.copy_to(module.parameters())
    with tempfile.TemporaryDirectory(prefix="raydistill-") as folder:
        objective.export(module.float().cpu(), Path(folder))
        job.out.upload(folder, job.weights)
    job.out.write_json("history.json", {"loss": history})


def _condense(last: int, losses: list[float], steps: int) -> list[tuple[int, float]]:
    """Average the losses of the steps up to `last` into a few (step, mean loss) points."""
    width = max(1, steps // HISTORY_POINTS)
    chunks = [losses[i : i + width] for i in range(0, len(losses), width)]
    first = last + 1 - len(losses)
    return [(first + i * width + len(chunk), sum(chunk) / len(chunk)) for i, chunk in enumerate(chunks)]
