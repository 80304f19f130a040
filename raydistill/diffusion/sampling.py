"""Inference with a Stable Diffusion folder: samples, near-copies on the model's own manifold, denoising losses.

A sample is a function of (model, prompt, its own seed). Batches have one fixed shape and tails are padded, so that
the arithmetic of a row doesn't depend on how many rows came with it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from numpy.typing import NDArray
from torch import Tensor

from raydistill.core.seeds import derive_seed
from raydistill.diffusion.components import decode_latents, encode_images, load, tokenize

Grey = NDArray[np.uint8]
Rows = NDArray[np.int64]
EMBEDDING_BATCH = 256


class Sampler:
    """A loaded model that makes images.

    Args:
        folder: a Stable Diffusion folder.
        device: a torch device.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Load the folder onto the device."""
        self.parts, self.device = load(folder, device), torch.device(device)
        side = self.parts.unet.config.sample_size
        self.latent_shape = (self.parts.unet.config.in_channels, side, side)
        self.predicts_velocity = self.parts.scheduler.config.prediction_type == "v_prediction"

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        guidance_scale: float,
        num_inference_steps: int,
        batch_size: int,
    ) -> Grey:
        """Make one image a prompt.

        Args:
            prompts: N texts.
            seeds: N integers in [0, 2**63), of the noise each image starts from.
            guidance_scale: w of classifier-free guidance, at least 1; 1 is none (Ho and Salimans, arXiv 2207.12598).
            num_inference_steps: steps of the solver.
            batch_size: the fixed shape of every batch.

        Returns:
            uint8 (N, R, R).
        """
        embeddings, empty = self._embed(prompts)

        def make(rows: Rows) -> Grey:
            solver = self._solver(num_inference_steps)
            noise = self._noise([seeds[row] for row in rows]) * solver.init_noise_sigma
            return self._denoise(solver, 0, noise, embeddings(rows), empty, guidance_scale)

        return self._in_batches(make, len(prompts), batch_size)

    def noise_and_denoise(
        self,
        images: Grey,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        strength: float,
        num_inference_steps: int,
        batch_size: int,
    ) -> Grey:
        """Push images part of the way into noise and denoise them again, without guidance.

        What comes back lies on the model's own manifold, near the image: a planted near-copy. The method is SDEdit
        (Meng et al., arXiv 2108.01073) with a deterministic solver.

        Args:
            images: uint8 (N, R, R).
            prompts: N texts.
            seeds: N integers in [0, 2**63), of the noise that is added.
            strength: share of the noise schedule to return from, in (0, 1].
            num_inference_steps: steps of the solver over the whole schedule; this share of them, at least 1, is done.
            batch_size: the fixed shape of every batch.

        Returns:
            uint8 (N, R, R).
        """
        embeddings, empty = self._embed(prompts)

        def make(rows: Rows) -> Grey:
            solver = self._solver(num_inference_steps)
            start = len(solver.timesteps) - max(1, round(strength * len(solver.timesteps)))
            latents, noise = self._encode(images[rows]), self._noise([seeds[row] for row in rows])
            noisy = solver.add_noise(latents, noise, solver.timesteps[start].expand(len(rows)))
            return self._denoise(solver, start, noisy, embeddings(rows), empty, 1.0)

        return self._in_batches(make, len(prompts), batch_size)

    @torch.inference_mode()
    def denoising_losses(
        self,
        images: Grey,
        prompts: Sequence[str],
        *,
        fractions: Sequence[float],
        seeds: Sequence[int],
        batch_size: int,
    ) -> NDArray[np.float64]:
        """Measure how well the model knows images: its denoising error at several noise levels.

        Args:
            images: uint8 (N, R, R).
            prompts: N texts.
            fractions: noise levels as shares of the schedule, in (0, 1).
            seeds: noise draws to average over; every image gets the same draws, so that losses can be compared.
            batch_size: the fixed shape of every batch.

        Returns:
            float64 (N, len(fractions)), mean squared error of the predicted noise. A predicted velocity v counts as
            the noise sqrt(a) v + sqrt(1 - a) x, a being the schedule's cumulative alpha (arXiv 2202.00512, section 4).
        """
        embeddings, _ = self._embed(prompts)

        def measure(rows: Rows) -> NDArray[np.float64]:
            latents, words = self._encode(images[rows]), embeddings(rows)
            losses = [[self._noise_error(latents, words, f, seed) for f in fractions] for seed in seeds]
            return np.asarray(np.mean(losses, axis=0).T)

        return self._in_batches(measure, len(prompts), batch_size)

    def _noise_error(self, latents: Tensor, words: Tensor, fraction: float, seed: int) -> NDArray[np.float64]:
        schedule = self.parts.scheduler
        timestep = min(int(fraction * schedule.config.num_train_timesteps), schedule.config.num_train_timesteps - 1)
        timesteps = torch.full((len(latents),), timestep, device=self.device)
        noise = self._noise([derive_seed(seed, "timestep", timestep)]).expand_as(latents)
        noisy = schedule.add_noise(latents, noise, timesteps)
        predicted: Tensor = self.parts.unet(noisy, timesteps, words).sample
        if self.predicts_velocity:
            alpha = schedule.alphas_cumprod[timestep]
            predicted = alpha.sqrt() * predicted + (1 - alpha).sqrt() * noisy
        return ((predicted - noise).double() ** 2).mean(dim=(1, 2, 3)).cpu().numpy()

    def _solver(self, num_inference_steps: int) -> DPMSolverMultistepScheduler:
        """DPM-Solver++ of second order (Lu et al., arXiv 2211.01095) on the folder's own noise schedule."""
        solver = DPMSolverMultistepScheduler.from_config(self.parts.scheduler.config)
        solver.set_timesteps(num_inference_steps, device=self.device)
        return solver

    @torch.inference_mode()
    def _denoise(
        self,
        solver: DPMSolverMultistepScheduler,
        start: int,
        latents: Tensor,
        words: Tensor,
        empty: Tensor,
        guidance_scale: float,
    ) -> Grey:
        guided = guidance_scale != 1.0
        context = torch.cat([empty.expand_as(words), words]) if guided else words
        solver.set_begin_index(start)
        for timestep in solver.timesteps[start:]:
            predicted = self.parts.unet(latents.repeat(1 + guided, 1, 1, 1), timestep, context).sample
            if guided:
                without, told = predicted.chunk(2)
                predicted = without + guidance_scale * (told - without)
            latents = solver.step(predicted, timestep, latents).prev_sample
        return decode_latents(self.parts.vae, latents)

    def _encode(self, images: Grey) -> Tensor:
        return torch.from_numpy(encode_images(self.parts.vae, images)).to(self.device)

    def _noise(self, seeds: Sequence[int]) -> Tensor:
        # Drawn on the CPU: a seed means the same noise on every device.
        draws = [torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        return torch.stack(draws).to(self.device)

    @torch.inference_mode()
    def _embed(self, prompts: Sequence[str]) -> tuple[Callable[[Rows], Tensor], Tensor]:
        """Embed each distinct prompt once; return the look-up by row, and the empty prompt's embedding (1, L, D)."""
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(["", *prompts]))}
        ids = torch.from_numpy(tokenize(self.parts.tokenizer, list(numbers))).to(self.device)
        chunks = torch.split(ids, EMBEDDING_BATCH)
        table = torch.cat([self.parts.text_encoder(chunk).last_hidden_state for chunk in chunks])
        return lambda rows: table[[numbers[prompts[row]] for row in rows]], table[:1]

    def _in_batches(self, make: Callable[[Rows], NDArray[Any]], count: int, batch_size: int) -> NDArray[Any]:
        results = []
        for start in range(0, count, batch_size):
            rows = np.minimum(np.arange(start, start + batch_size), count - 1)
            results.append(make(rows)[: count - start])
        return np.concatenate(results)
