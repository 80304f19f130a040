"""Train a findings classifier for an evaluation: seconds in the evaluation's own process, through the one loop."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import AutoModelForImageClassification, PreTrainedModel

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.scratch import temporary_folder
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import OptimizerConfig
from raydistill.distributed.job import TrainJob
from raydistill.distributed.train import train_here
from raydistill.metrics.classifier import FindingsObjective

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
