"""The one training loop: Ray Train starts the workers, DeepSpeed ZeRO holds the state, an objective says what to learn.

A batch is a function of (seed, step) and of nothing else. That makes the position in the data part of the step
counter: a resumed run sees the batches an unbroken one would have seen, whatever the number of workers.
"""

import json
import logging
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch._C._distributed_c10d import HashStore

from raydistill.core.errors import InputError, TrainingError
from raydistill.core.progress import Progress, silent
from raydistill.core.rows import Rows
from raydistill.core.scratch import temporary_folder
from raydistill.core.section import Compute
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.distributed.engine import FACTS, Engine, checkpointed, facts, take_up
from raydistill.distributed.history import History
from raydistill.distributed.job import Objective, TrainJob, check_training
from raydistill.distributed.session import board, root_cause
from raydistill.distributed.stream import Parts, ahead

POST_EVERY_S, REPORT_EVERY_S, NOTICE_EVERY_S = 1.0, 5.0, 1.0
RUN, STOPPED = "train", "stopped.json"
"""In a job's `work`: Ray Train's folder of checkpoints; why a training ended that must not be tried again."""

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
    _drop_torn(job.work / RUN)
    fewest, most = job.compute.workers
    streamed = job.stream and Split(
        job.stream, job.optimizer.steps, partial(job.deepspeed.micros, job.optimizer.batch_size), job.work
    )
    with board(progress) as news:
        trainer = TorchTrainer(
            _loop,
            train_loop_config={"job": cloudpickle.dumps(job), "board": news},
            torch_config=TorchConfig(backend="nccl" if job.compute.num_gpus else "gloo"),
            scaling_config=ray_train.ScalingConfig(
                num_workers=most if fewest == most else (fewest, most),
                use_gpu=job.compute.num_gpus > 0,
                resources_per_worker=resources(job.compute),
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


def _drop_torn(run: Store) -> None:
    """Start anew where a kill cut Ray Train's list of checkpoints short: no run would ever get past it."""
    if run.exists(SNAPSHOT):
        try:
            json.loads(run.read_bytes(SNAPSHOT))
        except ValueError:
            logging.getLogger(__name__).warning("%s/%s is cut short: starting anew", run.uri, SNAPSHOT)
            run.delete()


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
    names = sorted({name.split("/")[0] for name in (work / RUN).files() if name.endswith(f"/{FACTS}")})
    if not names:
        raise InputError(f"{(work / RUN).uri} has no checkpoint")
    checkpoint, module = (work / RUN / names[-1]).keep_local(), objective.build()
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
    alone = ray_train.ScalingConfig(num_workers=0)
    # Not TorchTrainer: it would end the process group, which DeepSpeed holds on to.
    packed = {"job": cloudpickle.dumps(job), "board": None}
    DataParallelTrainer(_loop, train_loop_config=packed, scaling_config=alone).fit()
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
    return {"CPU": compute.num_cpus} | ({"GPU": compute.num_gpus} if compute.num_gpus else {})


def _loop(config: dict[str, Any]) -> None:
    # Bytes: Ray Train's controller, which opens its arguments, needs none of the libraries that a job is made of.
    learn(pickle.loads(config["job"]), config["board"])  # noqa: S301 (packed by `train` itself)


def learn(job: TrainJob, news: Any) -> None:
    """Run a training as one of its workers.

    Args:
        job: the same on every worker.
        news: a `board`, or None.
    """
    os.environ["DS_ACCELERATOR"] = job.compute.device
    torch.set_num_threads(max(1, int(job.compute.num_cpus)))
    _Worker(job, news).run()


class _Worker:
    """One worker of a training. What one decides all decide: every decision is made of numbers that all have."""

    def __init__(self, job: TrainJob, news: Any) -> None:
        from ray import train as ray_train

        context = ray_train.get_context()
        self.job, self.news, self.ray = job, news, ray_train
        self.rank, self.workers = context.get_world_rank(), context.get_world_size()
        rows = job.optimizer.batch_size
        self.parts = Parts(rows, self.workers, job.deepspeed.micros(rows, self.workers))
        self.objective = job.make_objective()
        with _last_checkpoint() as folder:
            known: dict[str, Any] = facts(folder) if folder else {"step": 0, "history": {}}
            self.step: int = known["step"]
            # Readers take as long to start as models take to load: both at once.
            self.rows = ahead(self._rows())
            options = (job.optimizer, job.deepspeed, self.parts, job.ema_decay)
            self.engine = Engine(self.objective.build(), *options, folder)
        self.history = History(job.optimizer, **known["history"])
        self.guarded = job.guard.rows() if job.guard else {}
        self.losses: list[torch.Tensor] = []
        self.points: list[dict[str, Any]] = []
        self.posted = self.reported = self.looked = self.saved = time.monotonic()
        self.looked_at = self.saved_at = self.step
        self.leaving: set[str] = set()
        self.ask_every = 1

    def run(self) -> None:
        """Learn until the last step, or until the history says that it is over."""
        optimizer = self.job.optimizer
        while self.step < optimizer.steps and not self.history.stopped:
            torch.manual_seed(derive_seed(self.job.seed, "module", self.step, self.rank))
            self.losses.append(self.engine.learn(self._losses()))
            self.step += 1
            self._post()
            # First what a checkpoint must know of.
            if self.job.guard and self._is_due(self.job.guard.config.every):
                self._measure_gap()
            leaving = self._is_preempted()
            if leaving or any(self._is_due(every) for every in (optimizer.log_every, optimizer.checkpoint_every)):
                self._look(leaving)
            if self.job.preview and self.job.preview.every and self._is_due(self.job.preview.every):
                self._draw()
        self._finish()

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0 and self.step < self.job.optimizer.steps

    def _rows(self) -> Iterator[Rows]:
        from raydistill.distributed.split import received

        if self.job.stream:
            yield from received(self.step, self.rank, self.parts, self.job.work)
        while True:
            yield {}

    def _losses(self) -> Iterator[torch.Tensor]:
        for part in self.parts.of(self.rank):
            yield self.objective.loss(self.engine.wrapped, self.step, part, next(self.rows)) * self.parts.weight(part)

    def _agree(self, *values: Any) -> list[float]:
        """Average numbers over the workers."""
        numbers = torch.stack([torch.as_tensor(value, dtype=torch.float64).cpu() for value in values])
        numbers = numbers.to(self.engine.device)
        if self.workers > 1:
            torch.distributed.all_reduce(numbers)
        return [float(number) / self.workers for number in numbers]

    def _look(self, leaving: bool = False) -> None:
        """Learn what the losses were, whether all is well, and whether it is time to save or to report."""
        now, first = time.monotonic(), self.rank == 0
        save = first and now - self.saved > 60 * self.job.optimizer.checkpoint_minutes
        report = first and now - self.reported > REPORT_EVERY_S
        pace = (now - self.looked) / max(1, self.step - self.looked_at)
        *losses, saving, reporting, pace = self._agree(*self.losses, save, report, pace)
        self.losses, self.ask_every = [], max(1, int(NOTICE_EVERY_S / max(pace, 1e-3)))
        self.history.add(self.step, losses)
        self.points.append(self._point(self.history.last, now))
        due = self._is_due(self.job.optimizer.checkpoint_every) or saving or leaving
        if due and not self.history.has_diverged:
            self._check_weights()
        if self.history.has_diverged:
            return
        if due:
            self._checkpoint()
        elif reporting:
            self._report()

    def _check_weights(self) -> None:
        (whole,) = self._agree(self.engine.is_finite())
        self.history.check_weights(self.step, whole == 1)

    def _is_preempted(self) -> bool:
        """Whether a node is about to be taken away, said once of each; asked about once a second."""
        if self.step % self.ask_every:
            return False
        told = self.ray.get_preemption_info()
        leaving = set(told.preempted_node_ids) - self.leaving if told else set()
        self.leaving |= leaving
        return bool(leaving)

    def _point(self, loss: float, now: float) -> dict[str, Any]:
        rows = (self.step - self.looked_at) * self.job.optimizer.batch_size
        pace = rows / max(now - self.looked, 1e-9)
        self.looked, self.looked_at = now, self.step
        state = {"lr": self.engine.lr(), "gradient_norm": self.engine.gradient_norm()}
        return {"step": self.step, "loss": loss, **state, "images_per_s": pace, "memory_gib": self.engine.memory_gib()}

    @torch.no_grad()
    def _measure_gap(self) -> None:
        """Compare the loss of train images with that of calibration images, under the same noise."""
        assert self.job.guard
        config, means = self.job.guard.config, []
        self.engine.module.eval()
        for name in ("train", "calibration"):
            rows = self.guarded[name]
            parts = Parts(len(next(iter(rows.values()))), self.workers, 1)
            inside = parts.part(self.rank)
            # A worker that has no row takes part in the collectives of a cut model all the same, and counts nothing.
            weight, inside = parts.weight(inside), slice(inside.start, max(inside.stop, inside.start + 1))
            mine = {column: values[inside] for column, values in rows.items()}
            draws = [self.objective.loss(self.engine.wrapped, -1 - draw, inside, mine) for draw in range(config.draws)]
            means.append(torch.stack(draws).mean() * weight)
        self.engine.module.train()
        train, calibration = self._agree(*means)
        gap = self.history.add_gap(self.step, train, calibration, config)
        self.points.append({"step": self.step, "train_loss": train, "calibration_loss": calibration, "gap": gap})

    def _draw(self) -> None:
        """Let the objective's folder, as it would be exported now, draw a picture."""
        assert self.job.preview
        trained = self.engine.trained()
        if self.rank == 0 and self.job.logs:
            from PIL import Image

            name, stream = f"previews/step-{self.step:06d}.png", BytesIO()
            try:
                with self._exported(trained) as folder:
                    Image.fromarray(self.job.preview.draw(folder)).save(stream, "PNG")
                self.job.logs.write_bytes(name, stream.getvalue())
            except Exception:  # a full disk or GPU: a picture isn't worth a training
                logging.getLogger(__name__).exception("no preview at step %d", self.step)
            else:
                self.points.append({"step": self.step, "preview": name})

    def _post(self) -> None:
        now = time.monotonic()
        if self.rank == 0 and self.news is not None and now - self.posted > POST_EVERY_S:
            self.posted = now
            self.news.post.remote(self.step, self.job.optimizer.steps, "steps")

    def _report(self, checkpoint: Any = None, is_last: bool = False) -> None:
        self.ray.report({"step": self.step, "points": self.points, "is_last": is_last}, checkpoint=checkpoint)
        self.points, self.reported = [], time.monotonic()

    def _checkpoint(self) -> None:
        with temporary_folder() as folder:
            self.engine.save(Path(folder), {"step": self.step, "history": self.history.state()})
            self._report(self.ray.Checkpoint.from_directory(folder))
        self.saved, self.saved_at = time.monotonic(), self.step

    def _finish(self) -> None:
        """Export what was learned; of a training that diverged, say where the last good checkpoint is."""
        if self.losses:
            self._look()
        if not self.history.has_diverged:
            self._check_weights()
        if not self.history.has_diverged:
            if self.job.guard and self.history.measured != self.step:
                self._measure_gap()
            if self.job.preview and self.job.preview.every:
                self._draw()
        if self.history.has_diverged:
            if self.rank == 0:
                self.job.work.write_json(STOPPED, {"why": f"{self.history.stopped}; {self._last_good()}"})
        else:
            trained = self.engine.trained()
            if self.rank == 0:
                with self._exported(trained) as folder:
                    self.job.out.upload(folder, self.job.weights)
                self.job.out.write_json("history.json", self.history.summary())
        self._report(is_last=True)

    def _last_good(self) -> str:
        if not self.saved_at:
            return "no checkpoint was made before it"
        where = f"in {(self.job.work / RUN).uri}; `raydistill checkpoint` writes it as a model"
        return f"the last good checkpoint is of step {self.saved_at}, {where}"

    @contextmanager
    def _exported(self, trained: dict[str, torch.Tensor]) -> Iterator[Path]:
        module = self.objective.build()
        take_up(module, trained)
        with temporary_folder() as folder:
            self.objective.export(module, Path(folder))
            yield Path(folder)


@contextmanager
def _last_checkpoint() -> Iterator[Path | None]:
    from ray import train as ray_train

    checkpoint = ray_train.get_checkpoint()
    with checkpoint.as_directory() if checkpoint else nullcontext() as folder:
        yield Path(folder) if folder else None
