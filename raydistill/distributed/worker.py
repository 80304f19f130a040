"""One worker of a training: the loop itself.

A batch is a function of (seed, step) and of nothing else. That makes the position in the data part of the step
counter: a resumed run sees the batches an unbroken one would have seen, whatever the number of workers.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from raydistill.core.rows import Rows
from raydistill.core.scratch import temporary_folder
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.distributed.checkpoint import facts, take_up
from raydistill.distributed.engine import Engine
from raydistill.distributed.history import History
from raydistill.distributed.job import RUN, STOPPED, TrainJob
from raydistill.distributed.stream import Parts, ahead

POST_EVERY_S, REPORT_EVERY_S, NOTICE_EVERY_S = 1.0, 5.0, 1.0


def learn(job: TrainJob, news: Any, start: Store | None = None) -> None:
    """Run a training as one of its workers.

    Args:
        job: the same on every worker.
        news: a `board`, or None.
        start: the checkpoint to go on from where Ray Train knows of none.
    """
    os.environ["DS_ACCELERATOR"] = job.compute.device
    torch.set_num_threads(max(1, int(job.compute.num_cpus)))
    Worker(job, news, start).run()


class Worker:
    """One worker of a training. What one decides all decide: every decision is made of numbers that all have."""

    def __init__(self, job: TrainJob, news: Any, start: Store | None = None) -> None:
        """Take up the last checkpoint, if there is one."""
        from ray import train as ray_train

        context = ray_train.get_context()
        self.job, self.news, self.ray = job, news, ray_train
        self.rank, self.workers = context.get_world_rank(), context.get_world_size()
        rows = job.optimizer.batch_size
        self.parts = Parts(rows, self.workers, job.deepspeed.micros(rows, self.workers))
        self.objective = job.make_objective()
        with _last_checkpoint(start) as folder:
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
            losses = [self._guard_loss(self.guarded[name], -1 - draw) for draw in range(config.draws)]
            means.append(torch.stack(losses).mean())
        self.engine.module.train()
        train, calibration = self._agree(*means)
        gap = self.history.add_gap(self.step, train, calibration, config)
        self.points.append({"step": self.step, "train_loss": train, "calibration_loss": calibration, "gap": gap})

    def _guard_loss(self, rows: Rows, step: int) -> torch.Tensor:
        """This worker's share of the mean loss of some rows, no more of them at a time than it learns from."""
        count = len(next(iter(rows.values())))
        parts, losses = Parts(count, self.workers, self.job.deepspeed.micros(count, self.workers)), []
        for part in parts.of(self.rank):
            # A worker that has no row takes part in the collectives of a cut model all the same, and counts nothing.
            inside = slice(part.start, max(part.stop, part.start + 1))
            mine = {column: values[inside] for column, values in rows.items()}
            losses.append(self.objective.loss(self.engine.wrapped, step, inside, mine) * parts.weight(part))
        return torch.stack(losses).mean()

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
def _last_checkpoint(start: Store | None) -> Iterator[Path | None]:
    from ray import train as ray_train

    if checkpoint := ray_train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            yield Path(folder)
    else:
        yield start.keep_local() if start else None
