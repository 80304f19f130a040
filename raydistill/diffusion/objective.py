"""What a diffusion model learns: to take noise out of latents, told by a prompt.

A step's rows, noise, timesteps and dropped prompts are drawn for the whole global batch from (seed, step) on the CPU,
then cut into the workers' parts: the sum of the parts doesn't depend on how many workers there are.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raydistill.core.seeds import derive_seed, generator
from raydistill.diffusion.components import load, tokenize
from raydistill.diffusion.folder import load_pipeline, save

Latents = NDArray[np.float32]


class Denoiser(nn.Module):
    """What is trained: the UNet, and the text encoder unless its output is given.

    Args:
        unet: diffusers' UNet2DConditionModel.
        text_encoder: transformers' CLIPTextModel; None when the forward pass is given embeddings.
    """

    def __init__(self, unet: nn.Module, text_encoder: nn.Module | None) -> None:
        """Hold the parts as submodules."""
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, prompts: Tensor) -> Tensor:
        """Predict noise or velocity.

        Args:
            noisy: float (B, C, h, w).
            timesteps: int64 (B,).
            prompts: int64 (B, L) token ids, or float (B, L, D) embeddings when there is no text encoder.

        Returns:
            float (B, C, h, w).
        """
        embeddings = self.text_encoder(prompts).last_hidden_state if self.text_encoder is not None else prompts
        predicted: Tensor = self.unet(noisy, timesteps, embeddings).sample
        return predicted


@dataclass(frozen=True)
class Batch:
    """The random choices of one global batch of B rows: row numbers, flips, dropped prompts, noise, timesteps."""

    rows: NDArray[np.int64]
    flipped: NDArray[np.bool_]
    dropped: NDArray[np.bool_]
    noise: Tensor
    timesteps: Tensor


class DiffusionObjective:
    """Denoising with classifier-free guidance dropout (Ho and Salimans, arXiv 2207.12598).

    Args:
        initial: the Stable Diffusion folder that training starts from.
        latents: float32 (N, C, h, w), scaled; may be memory-mapped.
        flipped_latents: the same of the mirrored images, of which half the batch then is; or None.
        input_ids: int64 (N, L).
        batch_size: rows of the global batch.
        prompt_dropout: share of prompts left empty.
        train_text_encoder: otherwise the prompts are embedded once and the encoder stays as it is.
        seed: of everything random.
    """

    def __init__(
        self,
        initial: Path,
        latents: Latents,
        flipped_latents: Latents | None,
        input_ids: NDArray[np.int64],
        *,
        batch_size: int,
        prompt_dropout: float,
        train_text_encoder: bool,
        seed: int,
    ) -> None:
        """Keep the data; models are loaded by `build`."""
        self.initial, self.latents, self.flipped_latents, self.input_ids = initial, latents, flipped_latents, input_ids
        self.batch_size, self.prompt_dropout, self.seed = batch_size, prompt_dropout, seed
        self.train_text_encoder = train_text_encoder

    def build(self) -> Denoiser:
        """Load the initial weights; the same on every worker."""
        parts = load(self.initial)
        self.scheduler = DDPMScheduler.from_config(parts.scheduler.config)
        self.empty_ids = tokenize(parts.tokenizer, [""])[0]
        if not self.train_text_encoder:
            self._embed(parts.text_encoder)
        return Denoiser(parts.unet, parts.text_encoder if self.train_text_encoder else None).train()

    def _embed(self, text_encoder: nn.Module) -> None:
        distinct, numbers = np.unique(np.vstack([self.empty_ids, self.input_ids]), axis=0, return_inverse=True)
        self.prompt_numbers = torch.from_numpy(numbers.reshape(-1))
        with torch.no_grad():
            chunks = [text_encoder(ids).last_hidden_state for ids in torch.split(torch.from_numpy(distinct), 256)]
        self.embeddings = torch.cat(chunks)

    def batch(self, step: int) -> Batch:
        """Draw the random choices of a step's whole global batch."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, offsets = np.divmod(places, len(self.latents))
        orders = (_order(self.seed, int(epoch), len(self.latents)) for epoch in epochs)
        rows = np.array([order[offset] for order, offset in zip(orders, offsets, strict=True)])
        random = torch.Generator().manual_seed(derive_seed(self.seed, "batch", step))
        coins = torch.rand((2, self.batch_size), generator=random).numpy()
        return Batch(
            rows=rows,
            flipped=(coins[0] < 0.5) & (self.flipped_latents is not None),
            dropped=coins[1] < self.prompt_dropout,
            noise=torch.randn((self.batch_size, *self.latents.shape[1:]), generator=random),
            timesteps=torch.randint(self.scheduler.config.num_train_timesteps, (self.batch_size,), generator=random),
        )

    def loss(self, model: nn.Module, step: int, part: slice) -> Tensor:
        """Return the mean squared error of the prediction over one worker's part of a step's batch.

        Args:
            model: the built module, possibly wrapped.
            step: number of the global batch.
            part: positions in the global batch.

        Returns:
            A scalar. The prediction is of the noise (Ho et al., arXiv 2006.11239, eq. 14) or of the velocity
            (Salimans and Ho, arXiv 2202.00512, section 4), as the folder's scheduler says.
        """
        batch, like = self.batch(step), next(model.parameters())
        clean, noise, timesteps = self._latents(batch, part), batch.noise[part], batch.timesteps[part]
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        target = self.scheduler.get_velocity(clean, noise, timesteps) if velocity else noise
        prompts = self._prompts(batch, part).to(like.device)
        prompts = prompts.to(like.dtype) if prompts.is_floating_point() else prompts
        prediction = model(noisy.to(like), timesteps.to(like.device), prompts)
        return functional.mse_loss(prediction.float(), target.to(like.device))

    def _latents(self, batch: Batch, part: slice) -> Tensor:
        chosen = np.array(self.latents[batch.rows[part]])
        if self.flipped_latents is not None:
            flipped = batch.flipped[part]
            chosen[flipped] = self.flipped_latents[batch.rows[part][flipped]]
        return torch.from_numpy(chosen)

    def _prompts(self, batch: Batch, part: slice) -> Tensor:
        rows, dropped = batch.rows[part], batch.dropped[part]
        if not self.train_text_encoder:
            return self.embeddings[self.prompt_numbers[torch.from_numpy(np.where(dropped, 0, rows + 1))]]
        return torch.from_numpy(np.where(dropped[:, None], self.empty_ids, self.input_ids[rows]))

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the trained module as a whole Stable Diffusion folder with safetensors.

        Args:
            model: the plain module that `build` returned, trained.
            folder: where to write.
        """
        pipeline = load_pipeline(self.initial)
        for name in ("unet", "text_encoder"):
            trained = getattr(model, name)
            if trained is not None:
                getattr(pipeline, name).load_state_dict(trained.state_dict())
        save(pipeline, folder)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return generator(seed, "epoch", epoch).permutation(count)
