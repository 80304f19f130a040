"""The findings classifier whose training set is what utility compares: a small residual network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, ResNetConfig, ResNetForImageClassification

from raydistill.core.seeds import derive_seed, generator
from raydistill.metrics.probe import Floats

BLOCK = 256


@dataclass(frozen=True)
class FindingsObjective:
    """A small residual network that learns findings from images, lightly shifted and brightened.

    Args:
        images: uint8 (N, R, R), grey.
        labels: (N, F) of 0 and 1.
        seed: root of weights, batches and augmentation.
        width: channels of the first stage, doubled twice.
        max_shift: pixels an image is moved at most; its edge fills what it leaves.
        max_gain: relative change of contrast at most.

    Source: ResNet basic blocks, He et al. 2016 (CVPR).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    seed: int
    width: int = 16
    max_shift: int = 2
    max_gain: float = 0.1

    def __post_init__(self) -> None:
        """Refuse labels that don't belong to the images."""
        if not len(self.images) or len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images and {len(self.labels)} rows of labels: need as many, and one")

    def build(self) -> PreTrainedModel:
        """Return the untrained network; the same seed gives the same weights."""
        config = ResNetConfig(
            num_channels=1,
            embedding_size=self.width,
            hidden_sizes=[self.width, 2 * self.width, 4 * self.width],
            depths=[1, 1, 1],
            layer_type="basic",
            problem_type="multi_label_classification",
        )
        config.num_labels = self.labels.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "weights"))
            return ResNetForImageClassification(config)

    def loss(self, model: torch.nn.Module, step: int, part: slice, rows: Any) -> torch.Tensor:
        """Return the mean cross-entropy over positions `part` of the batch of a step; the images are its own."""
        device = next(model.parameters()).device
        chosen = generator(self.seed, "rows", step).integers(len(self.images), size=part.stop)[part]
        shifts = generator(self.seed, "shift", step).integers(-self.max_shift, self.max_shift + 1, size=(part.stop, 2))
        gains = generator(self.seed, "gain", step).uniform(-self.max_gain, self.max_gain, size=part.stop)
        pixels = as_input(_shifted(self.images, chosen, shifts[part]))
        pixels = pixels * torch.from_numpy(1 + gains[part]).float().reshape(-1, 1, 1, 1)
        loss: torch.Tensor = model(pixels.to(device), labels=torch.from_numpy(self.labels[chosen]).to(device)).loss
        return loss

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        model.save_pretrained(folder)


def predict(model: PreTrainedModel, images: NDArray[np.uint8]) -> Floats:
    """Return (N, F) probabilities for images uint8 (N, R, R)."""
    blocks = range(0, len(images), BLOCK)
    with torch.inference_mode():
        scores = [model(as_input(images[start : start + BLOCK])).logits.sigmoid() for start in blocks]
    empty = torch.zeros(0, model.config.num_labels or 0)
    return torch.cat([empty, *scores]).double().numpy()


def as_input(images: NDArray[np.uint8]) -> torch.Tensor:
    """Return images uint8 (N, R, R) as float32 (N, 1, R, R) in [-1, 1]."""
    return torch.from_numpy(images).unsqueeze(1).float() / 127.5 - 1


def _shifted(images: NDArray[np.uint8], rows: Any, shifts: Any) -> NDArray[np.uint8]:
    side = np.arange(images.shape[1])
    down, across = ((side + shift[:, None]).clip(0, side[-1]) for shift in shifts.T)
    shifted: NDArray[np.uint8] = images[rows[:, None, None], down[:, :, None], across[:, None, :]]
    return shifted
