"""A grid of samples from fixed prompts and seeds: how a training is coming along, at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raydistill.diffusion.sampling import Sampler, Way

COLUMNS = 4

WAY = Way(guidance_scale=2.0, num_inference_steps=20, batch_size=2)
"""Two images at a time: a card that is busy with a training has little room beside it."""


@dataclass(frozen=True)
class Grid:
    """Draws one image a prompt, always from the same noise.

    Args:
        prompts: a few texts.
        device: a torch device.
    """

    prompts: Sequence[str]
    device: str = "cpu"

    def __call__(self, folder: Path) -> NDArray[np.uint8]:
        """Return the samples of a Stable Diffusion folder as one picture, uint8 (H, W), four in a row."""
        count = len(self.prompts)
        images = Sampler(folder, self.device).generate(self.prompts, range(count), WAY)
        blank = np.zeros((-count % COLUMNS, *images.shape[1:]), np.uint8)
        rows = np.concatenate([images, blank]).reshape(-1, COLUMNS, *images.shape[1:])
        return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
