"""Train findings classifiers for an evaluation: seconds each, through the one loop, on as many workers as there are."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import AutoModelForImageClassification, PreTrainedModel

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.progress import Progress
from raydistill.core.scratch import temporary_folder
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import OptimizerConfig
from raydistill.distributed.job import TrainJob
from raydistill.distributed.task import run_on_workers
from raydistill.distributed.train import train_here
from raydistill.metrics.classifier import FindingsObjective, predict

BATCH_SIZE, LR, WEIGHT_DECAY = 64, 3e-3, 0.05
"""Equal for every set of images that is compared."""


def train_classifier(
    images: NDArray[np.uint8], labels: NDArray[np.float32], steps: int, seed: int, compute: Compute
) -> PreTrainedModel:
    """Train with a fixed budget: AdamW, a tenth of the steps as warm-up, then a cosine down to zero.

    Args:
        images: uint8 (N, R, R).
        labels: (N, F) of 0 and 1.
        steps: of the optimizer.
        seed: of weights, batches and augmentation.
        compute: of the process that this runs in.

    Returns:
        The trained network in evaluation mode, on the CPU.
    """
    how = OptimizerConfig(
        steps=steps, batch_size=BATCH_SIZE, lr=LR, weight_decay=WEIGHT_DECAY, warmup_steps=steps // 10
    )
    with temporary_folder() as folder:
        store = Store.open(folder)
        train_here(
            TrainJob(
                make_objective=partial(FindingsObjective, images, labels, seed),
                optimizer=how,
                deepspeed=DeepSpeedConfig(zero_stage=0),
                compute=compute,
                ema_decay=None,
                out=store / "out",
                weights="network",
                work=store / "work",
                seed=seed,
            )
        )
        return AutoModelForImageClassification.from_pretrained(Path(folder, "out", "network")).eval()


@dataclass(frozen=True)
class Lesson:
    """What classifiers are trained on, and what they are asked about.

    Args:
        images: uint8 (N, R, R); `labels` (N, F) of 0 and 1.
        tested: uint8 (M, R, R).
        steps: of each training.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    tested: NDArray[np.uint8]
    steps: int


@dataclass(frozen=True)
class Pupil:
    """One classifier: by name the rows that it learns from, and its seed."""

    rows: str
    seed: int


def teach(
    lesson: Lesson,
    rows: Mapping[str, NDArray[np.bool_]],
    pupils: Sequence[Pupil],
    compute: Compute,
    work: Store,
    progress: Progress,
) -> list[NDArray[np.float64]]:
    """Train a classifier for each of several sets of rows, as many at a time as there is room for.

    Args:
        lesson: shared by all.
        rows: (N,) by name.
        pupils: who is trained.
        compute: size of each one's worker.
        work: where what they said outlives a kill.
        progress: told of each.

    Returns:
        Each one's probabilities (M, F) of what is tested.
    """
    return run_on_workers(
        partial(_answers, compute=compute, work=work), (lesson, rows), pupils, compute, progress, "classifiers"
    )


def _answers(
    shared: tuple[Lesson, Mapping[str, NDArray[np.bool_]]], pupil: Pupil, compute: Compute, work: Store
) -> NDArray[np.float64]:
    lesson, keep = shared[0], shared[1][pupil.rows]

    def answer() -> NDArray[np.float64]:
        model = train_classifier(lesson.images[keep], lesson.labels[keep], lesson.steps, pupil.seed, compute)
        return predict(model, lesson.tested)

    return once(work / "answers", keep, pupil.seed, answer)


def once(
    work: Store, keep: NDArray[np.bool_], seed: int, answer: Callable[[], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return what is answered after learning from some rows, unless it was before a kill.

    Args:
        work: where answers outlive one.
        keep: (N,) the rows.
        seed: of what learns.
        answer: learns, and gives the probabilities.
    """
    name = f"{hashlib.sha256(keep.tobytes()).hexdigest()[:16]}-{seed}.npy"
    if not work.exists(name):
        content = BytesIO()
        np.save(content, answer(), allow_pickle=False)
        work.write_bytes(name, content.getvalue())
    found: NDArray[np.float64] = np.load(BytesIO(work.read_bytes(name)), allow_pickle=False)
    return found
