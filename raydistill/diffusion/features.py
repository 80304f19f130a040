"""Features that never saw a cohort: the latents of the packaged public autoencoder.

They serve where a number must not depend on private data: the linear probe inside the search, and fidelity.
"""

from functools import cache

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from raydistill.diffusion.components import encode_images
from raydistill.diffusion.folder import WEIGHTS, sha256
from raydistill.diffusion.tiny import PUBLIC

VAE = PUBLIC / "vae"
PROBE_SIDE, POOLED_SIDE = 8, 4
"""Sides to which latents are averaged: 256 numbers an image for a probe, 64 for a covariance of few images."""


def public_features(images: NDArray[np.uint8], *, pooled: bool = False, device: str = "cpu") -> NDArray[np.float32]:
    """Describe images by their public latents, averaged to a small grid.

    Args:
        images: uint8 (N, R, R).
        pooled: average to a 4 x 4 grid instead of 8 x 8, for estimates that need many more images than dimensions.
        device: where to compute, by torch's name.

    Returns:
        float32 (N, 64 or 256).
    """
    latents = torch.from_numpy(encode_images(_public(device), images))
    side = min(POOLED_SIDE if pooled else PROBE_SIDE, latents.shape[-1])
    return torch.nn.functional.adaptive_avg_pool2d(latents, side).flatten(1).numpy()


@cache
def _public(device: str) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(VAE, use_safetensors=True).eval().to(device)


@cache
def public_digest() -> str:
    """Hash the weights that `public_features` looks through, once a process."""
    return sha256(VAE / WEIGHTS["vae"])
