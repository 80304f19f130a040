"""Inference with a Stable Diffusion folder: samples, near-copies on the model's own manifold, denoising losses.

A sample is a function of (model, prompt, its own seed). Batches have one fixed shape and tails are padded, so that
the arithmetic of a row doesn't depend on how many rows came with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.core.seeds import derive_seed
from raydistill.diffusion.batches import NOT_FINITE, Failure, Finished, Rows, in_batches, patiently
from raydistill.diffusion.components import decode_latents
from raydistill.diffusion.denoiser import Denoiser
from raydistill.diffusion.solvers import make_solver

Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class Way:
    """How samples are made.

    Attributes:
        guidance_scale: w of classifier-free guidance, at least 1.
        num_inference_steps: steps of the solver.
        batch_size: the fixed shape of every batch.
        solver: one of `core.generation.Solver`.
    """

    guidance_scale: float
    num_inference_steps: int
    batch_size: int
    solver: str = "dpmsolver++"


class Sampler(Denoiser):
    """A loaded model that makes images."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], way: Way) -> Grey:
        """Make one image a prompt.

        Args:
            prompts: N texts.
            seeds: N integers in [0, 2**63), of the noise each image starts from.
            way: how.

        Returns:
            uint8 (N, R, R).

        Raises:
            RuntimeError: when one can't be made.
        """
        images = []
        for made in self.finished(list, prompts, seeds, way):
            if isinstance(made, Failure):
                raise RuntimeError(made.reason)
            images.append(made)
        return np.stack(images)

    def finished(
        self, finish: Callable[[Grey], Sequence[Finished]], prompts: Sequence[str], seeds: Sequence[int], way: Way
    ) -> list[Finished | Failure]:
        """Make one image a prompt and finish it on another thread, with the decoder, while the next batch is denoised.

        A batch that fails is tried again row by row: a row that can't be made costs no other. It counts as such only
        where another row can still be made; else what failed is the machine or the model.

        Args:
            finish: turns images (n, R, R) into as many results.
            prompts: N texts.
            seeds: N integers in [0, 2**63), of the noise each image starts from.
            way: how.

        Returns:
            A result or a failure for each prompt.

        Raises:
            RuntimeError, ValueError: what the last row raised, when no row can be made, or none any more.
        """

        def make(rows: Rows) -> Tensor:
            steps = make_solver(way.solver, self.parts.scheduler, way.num_inference_steps, self.device)
            noise = self.noise([seeds[row] for row in rows]) * steps.init_noise_sigma
            return self._denoise(steps, 0, noise, self.embed([prompts[row] for row in rows]), way.guidance_scale)

        def end(latents: Tensor, count: int) -> list[Finished | Failure]:
            whole = torch.isfinite(latents).flatten(1).all(dim=1)
            # Decoded in one shape too, whatever failed and however many count.
            images = decode_latents(self.parts.vae, torch.where(whole[:, None, None, None], latents, 0.0))
            good = whole[:count].cpu().numpy()
            ended = iter(finish(images[:count][good]) if good.any() else ())
            return [next(ended) if is_good else Failure(NOT_FINITE) for is_good in good]

        return patiently(make, end, len(prompts), way.batch_size)

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
        (Meng et al., arXiv 2108.01073) with a deterministic solver, DPM-Solver++.

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

        def make(rows: Rows) -> Grey:
            solver = make_solver("dpmsolver++", self.parts.scheduler, num_inference_steps, self.device)
            start = len(solver.timesteps) - max(1, round(strength * len(solver.timesteps)))
            solver.set_begin_index(start)
            latents, noise = self.encode(images[rows]), self.noise([seeds[row] for row in rows])
            noisy = solver.add_noise(latents, noise, solver.timesteps[start].expand(len(rows)))
            words = self.embed([prompts[row] for row in rows])
            latents = self._denoise(solver, start, noisy, words, 1.0)
            if not torch.isfinite(latents).all():
                raise FloatingPointError(f"near-copies can't be planted: the model gives {NOT_FINITE}")
            return decode_latents(self.parts.vae, latents)

        return in_batches(make, len(prompts), batch_size)

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

        def measure(rows: Rows) -> NDArray[np.float64]:
            latents, words = self.encode(images[rows]), self.embed([prompts[row] for row in rows])
            losses = [[self._noise_error(latents, words, f, seed) for f in fractions] for seed in seeds]
            return np.asarray(np.mean(losses, axis=0).T)

        return in_batches(measure, len(prompts), batch_size)

    def _noise_error(self, latents: Tensor, words: Tensor, fraction: float, seed: int) -> NDArray[np.float64]:
        schedule = self.parts.scheduler
        timestep = min(int(fraction * schedule.config.num_train_timesteps), schedule.config.num_train_timesteps - 1)
        timesteps = torch.full((len(latents),), timestep, device=self.device)
        noise = self.noise([derive_seed(seed, "timestep", timestep)]).expand_as(latents)
        noisy = schedule.add_noise(latents, noise, timesteps)
        predicted = self.predict(noisy, timesteps, words)
        if self.predicts_velocity:
            alpha = schedule.alphas_cumprod[timestep]
            predicted = alpha.sqrt() * predicted + (1 - alpha).sqrt() * noisy
        return ((predicted - noise).double() ** 2).mean(dim=(1, 2, 3)).cpu().numpy()

    @torch.inference_mode()
    def _denoise(self, solver: Any, start: int, latents: Tensor, words: Tensor, guidance_scale: float) -> Tensor:
        for timestep in solver.timesteps[start:]:
            predicted = self.guided(solver.scale_model_input(latents, timestep), timestep, words, guidance_scale)
            latents = solver.step(predicted, timestep, latents).prev_sample
        return latents
