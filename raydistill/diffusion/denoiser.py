"""A loaded Stable Diffusion folder that predicts noise: precision, layout in memory, prompts embedded once."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.diffusion.components import encode_images, load, tokenize

EMBEDDING_BATCH = 16

REMEMBERED = 4096
"""Prompts whose embeddings are kept: 120 kB each in half precision with a text encoder of Stable Diffusion's size."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Denoiser:
    """The network of a folder, its text encoder and its autoencoder.

    Noise, latents and the solver's arithmetic stay in float32 whatever the precision of the networks; so does the
    autoencoder with fp16, whose range its activations leave.

    Args:
        folder: a Stable Diffusion folder.
        device: a torch device.
        precision: of the networks: `fp32`, `bf16` or `fp16`.
        compiled: have torch compile the UNet for the one shape of batch it will meet.
    """

    def __init__(self, folder: Path, device: str = "cpu", precision: str = "fp32", compiled: bool = False) -> None:
        """Load the folder onto the device."""
        self.parts, self.device, self.dtype = load(folder, device), torch.device(device), DTYPES[precision]
        self.parts.unet.to(self.dtype)
        self.parts.text_encoder.to(self.dtype)
        self.parts.vae.to(torch.bfloat16 if precision == "bf16" else torch.float32)
        if self.device.type == "cuda":
            for module in (self.parts.unet, self.parts.vae):
                module.to(memory_format=torch.channels_last)
        self.unet = torch.compile(self.parts.unet) if compiled else self.parts.unet
        side = self.parts.unet.config.sample_size
        self.latent_shape = (self.parts.unet.config.in_channels, side, side)
        self.predicts_velocity = self.parts.scheduler.config.prediction_type == "v_prediction"
        self.embedded: OrderedDict[str, Tensor] = OrderedDict()

    def predict(self, latents: Tensor, timesteps: Tensor, words: Tensor) -> Tensor:
        """Predict what the folder's kind of prediction says, from latents (N, C, h, w); float32 like them."""
        predicted: Tensor = self.unet(latents.to(self.dtype), timesteps, words).sample
        return predicted.float()

    def guided(self, latents: Tensor, timesteps: Tensor, words: Tensor, guidance_scale: float) -> Tensor:
        """Predict with classifier-free guidance, both halves in one forward pass.

        Args:
            latents: float32 (N, C, h, w).
            timesteps: one number, or N.
            words: embeddings (N, L, D) of the prompts.
            guidance_scale: w, at least 1; 1 is none (Ho and Salimans, arXiv 2207.12598).
        """
        if guidance_scale == 1.0:
            return self.predict(latents, timesteps, words)
        context = torch.cat([self.embed([""]).expand_as(words), words])
        without, told = self.predict(latents.repeat(2, 1, 1, 1), timesteps, context).chunk(2)
        return without + guidance_scale * (told - without)

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """Draw noise for each seed: float32 (N, C, h, w). On the CPU: a seed means the same on every device."""
        draws = [torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        return torch.stack(draws).to(self.device)

    def encode(self, images: NDArray[np.uint8]) -> Tensor:
        """Encode images (N, R, R) to scaled latents, float32 (N, C, h, w)."""
        return torch.from_numpy(encode_images(self.parts.vae, images)).to(self.device)

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Embed prompts, each distinct one once for as long as it is remembered: (N, L, D)."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.embedded]
        for start in range(0, len(new), EMBEDDING_BATCH):
            chunk = new[start : start + EMBEDDING_BATCH]
            # Always of one shape: what else is new must not change a prompt's arithmetic.
            padded = chunk + [""] * (EMBEDDING_BATCH - len(chunk))
            ids = torch.from_numpy(tokenize(self.parts.tokenizer, padded)).to(self.device)
            states = self.parts.text_encoder(ids).last_hidden_state
            self.embedded.update((prompt, states[row].clone()) for row, prompt in enumerate(chunk))
        rows = torch.stack([self.embedded[prompt] for prompt in prompts])
        for prompt in dict.fromkeys(prompts):
            self.embedded.move_to_end(prompt)
        while len(self.embedded) > REMEMBERED:
            self.embedded.popitem(last=False)
        return rows
