"""The packaged re-identification networks: trained on phantoms, so that a small cohort doesn't begin from nothing.

`jobs/public_weights.py --reid KIND` makes them.
"""

from pathlib import Path
from typing import cast

import torch
from torch import nn

from raydistill.core.seeds import derive_seed
from raydistill.core.training import WIDTHS, Backbone, BackboneConfig, OptimizerConfig, ReidConfig
from raydistill.reid.rehearsal import phantoms
from raydistill.reid.training import ReidLoss, ReidObjective

SEED = derive_seed(0, "public re-identification weights")
PATIENTS, STEPS = 8000, 10_000
LEARNING_RATE = {"resnet": 1e-3, "regnet": 1e-3, "convnext": 2e-3}


def config(kind: Backbone, steps: int) -> ReidConfig:
    """Say how a kind of backbone is trained.

    Args:
        kind: of `BackboneConfig`.
        steps: of the training.
    """
    return ReidConfig(
        backbone=BackboneConfig(kind=kind, width=WIDTHS[kind]),
        optimizer=OptimizerConfig(steps=steps, batch_size=96, lr=LEARNING_RATE[kind], weight_decay=0.05),
    )


class _HalfLoss(ReidLoss):
    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            embedded = self.network(images)
        # Every pair counts, not the hard ones alone: so the packaged weights were made.
        loss: torch.Tensor = self.criterion(embedded, labels)
        return loss


class PublicReidObjective(ReidObjective):
    """An `Objective` of the training loop: phantoms of no cohort, in bfloat16 where the processor has it.

    Args:
        kind: of `BackboneConfig`.
        steps: of the training.
        patients: phantoms, of several visits each.
    """

    def __init__(self, kind: Backbone, steps: int, patients: int = PATIENTS) -> None:
        super().__init__(*phantoms(patients, SEED), config(kind, steps), SEED)

    def build(self) -> nn.Module:
        """Return the network and its loss."""
        return _HalfLoss(cast(ReidLoss, super().build()).network)

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the network in half precision: what is lost is less than another seed would change."""
        cast(ReidLoss, getattr(model, "module", model)).network.save(folder, torch.float16)
