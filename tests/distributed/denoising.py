"""A small real diffusion model on a few rows of its own, for the tests of the loop."""

import numpy as np

from raydistill.core.training import DiffusionConfig
from raydistill.diffusion.objective import DiffusionObjective

BATCH = 4
SMALL = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32)


class Denoising(DiffusionObjective):
    """The product's objective on a few rows that it has by itself."""

    def loss(self, model, step, part, rows):
        rng = np.random.default_rng(7)
        latents = rng.normal(size=(BATCH, 4, 8, 8)).astype(np.float16)
        words = np.tile(self.empty, (BATCH, *[1] * self.empty.ndim))
        if words.dtype == np.int64:
            words = words - np.arange(BATCH)[:, None] % 3
        return super().loss(model, step, part, {"latents": latents[part], "words": words[part]})


def objective(folder, config=SMALL, **deepspeed):
    """The objective on a folder; more keywords are DeepSpeed's."""
    engine = config.deepspeed.model_copy(update=deepspeed)
    return Denoising(folder, config.model_copy(update={"deepspeed": engine}), seed=3)
