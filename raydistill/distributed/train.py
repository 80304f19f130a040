"""The one training loop: Ray Train starts the workers, DeepSpeed ZeRO holds the state, an objective says what to learn.

`worker` is what runs on each of them.
"""

import json
import math
import os
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch._C._distributed_c10d import HashStore

from raydistill.core.errors import InputError, TrainingError
from raydistill.core.progress import Progress, silent
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.distributed.board import board
from raydistill.distributed.checkpoint import checkpointed, facts, newest, take_up
from raydistill.distributed.claims import root_cause
from raydistill.distributed.job import RUN, STOPPED, Objective, TrainJob, check_training
from raydistill.distributed.worker import learn

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's list of the checkpoints in `RUN`."""


def train(job: TrainJob, max_failures: int, progress: Progress = silent, resize_s: float = 60.0) -> dict[str, Any]:
    """Run a training to its end, from its last checkpoint if there is one.

    Args:
        job: what to train and where.
        max_failures: losses of workers to survive; nodes that go at their announced deadline don't count.
        progress: told the steps done.
        resize_s: seconds between two looks whether the cluster has room for another number of workers.

    Returns:
        The content of `history.json`: `loss`, (step, mean loss) points; `gap`, (step, train, calibration) losses;
        `stopped`, why it ended before its last step, or null.

    Raises:
        ConfigError: when the batch has fewer rows than workers.
        TrainingError: when the loss isn't finite or explodes, or the workers failed too often.
    """
    from ray import cloudpickle, exceptions
    from ray import train as ray_train
    from ray.train.torch import TorchConfig, TorchTrainer

    from raydistill.distributed.split import NAME, Split, placeholder
    from raydistill.distributed.tracking import Tracking

    check_training(job.optimizer, job.deepspeed, job.compute)
    job.work.make()
    job.work.delete(STOPPED)
    start = _unlisted(job.work / RUN)
    fewest, most = job.compute.workers
    streamed = job.stream and Split(
        job.stream,
        job.optimizer.steps,
        partial(job.deepspeed.micros, job.optimizer.batch_size),
        job.work,
        job.compute.label_selector,
    )
    with board(progress) as news:
        trainer = TorchTrainer(
            _loop,
            train_loop_config={"job": cloudpickle.dumps(job), "board": news, "start": start},
            torch_config=TorchConfig(backend="nccl" if job.compute.num_gpus else "gloo"),
            scaling_config=ray_train.ScalingConfig(
                num_workers=most if fewest == most else (fewest, most),
                use_gpu=job.compute.num_gpus > 0,
                resources_per_worker=resources(job.compute),
                accelerator_type=job.compute.accelerator_type,
                label_selector=job.compute.label_selector or None,
                placement_strategy=job.compute.placement.upper(),
                elastic_resize_monitor_interval_s=resize_s,
            ),
            run_config=ray_train.RunConfig(
                name=RUN,
                storage_path=job.work.path,
                storage_filesystem=job.work.filesystem,
                checkpoint_config=ray_train.CheckpointConfig(num_to_keep=1),
                failure_config=ray_train.FailureConfig(max_failures=max_failures),
                callbacks=[Tracking(job.tracking, job.logs, job.name)] if job.logs else None,
            ),
            datasets={NAME: placeholder} if streamed else None,
            dataset_config=streamed or None,
        )
        # Ctrl-C is to interrupt a training like anything else: Ray Train's handler would stay, and leave with code 0.
        trainer._register_sigint_handler = lambda controller: None
        try:
            trainer.fit()
        except (ray_train.TrainingFailedError, exceptions.RayError) as error:
            raise TrainingError(f"training failed: {root_cause(error)}") from error
    return _outcome(job)


def _unlisted(run: Store) -> Store | None:
    """Return the checkpoint to start from where Ray Train's list of them is missing, or was cut short by a kill."""
    if run.exists(SNAPSHOT):
        try:
            json.loads(run.read_bytes(SNAPSHOT))
            return None
        except ValueError:
            # No run would ever get past it.
            run.delete(SNAPSHOT)
    return newest(run)


def export_checkpoint(objective: Objective, work: Store, folder: Path) -> int:
    """Write the last checkpoint of a training that isn't finished, as its end would be written.

    Args:
        objective: of that training.
        work: the job's.
        folder: where to write; it is made when missing.

    Returns:
        The number of steps taken.

    Raises:
        InputError: when there is no checkpoint.
    """
    last = newest(work / RUN)
    if not last:
        raise InputError(f"{(work / RUN).uri} has no checkpoint that is whole")
    checkpoint, module = last.keep_local(), objective.build()
    take_up(module, checkpointed(checkpoint, module))
    folder.mkdir(parents=True, exist_ok=True)
    objective.export(module, folder)
    return int(facts(checkpoint)["step"])


def train_here(job: TrainJob) -> dict[str, Any]:
    """Run the same loop in this process, for what takes seconds: one worker, no checkpoint, nothing to watch.

    Returns, raises:
        As `train`.
    """
    from ray import cloudpickle
    from ray import train as ray_train
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    form_group_of_one()
    alone, datasets = ray_train.ScalingConfig(num_workers=0), {}
    if job.stream:
        from raydistill.distributed.split import NAME, Alone

        micros = job.deepspeed.micros(job.optimizer.batch_size, 1)
        datasets = {NAME: Alone(job.stream, job.optimizer.steps, micros)}
    never = {"checkpoint_every": job.optimizer.steps, "checkpoint_minutes": math.inf}
    job = replace(job, optimizer=job.optimizer.model_copy(update=never))
    # Not TorchTrainer: it would end the process group, which DeepSpeed holds on to.
    packed = {"job": cloudpickle.dumps(job), "board": None, "start": None}
    DataParallelTrainer(_loop, train_loop_config=packed, scaling_config=alone, datasets=datasets).fit()
    return _outcome(job)


def form_group_of_one() -> None:
    """Give this process the process group that DeepSpeed needs, unless it has one."""
    os.environ.setdefault("LOCAL_RANK", "0")
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)


def _outcome(job: TrainJob) -> dict[str, Any]:
    if job.work.exists(STOPPED):
        raise TrainingError(job.work.read_json(STOPPED)["why"])
    history: dict[str, Any] = job.out.read_json("history.json")
    return history


def resources(compute: Compute) -> dict[str, float]:
    """Translate a stage's compute section into what Ray reserves for one worker."""
    wanted = {"CPU": compute.num_cpus, "GPU": compute.num_gpus, "memory": compute.memory_bytes}
    return {name: value for name, value in wanted.items() if value}


def _loop(config: dict[str, Any]) -> None:
    # Bytes: Ray Train's controller, which opens its arguments, needs none of the libraries that a job is made of.
    learn(pickle.loads(config["job"]), config["board"], config["start"])  # noqa: S301 (packed by `train` itself)
