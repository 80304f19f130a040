"""The one model layout: a Stable Diffusion folder, tiny or full size, that anybody's diffusers loads.

What it starts from, its parts in memory, and the ways in and out of its latent space and its vocabulary.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextModel, CLIPTokenizer

from raydistill.core.errors import ConfigError, InputError
from raydistill.core.training import DiffusionConfig, LoraConfig
from raydistill.diffusion.folder import check_layout, find, load_pipeline, save
from raydistill.diffusion.tiny import build_tiny, check_tiny

PIXELS = 2**20
"""Pixels of images that an autoencoder meets at a time: four images of 512, for it takes 1 kB and more a pixel."""


@dataclass(frozen=True)
class Components:
    """The parts of a loaded folder, in evaluation mode."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: SchedulerMixin


def check_start(config: DiffusionConfig, resolution: int) -> None:
    """Refuse a starting point that can't be used, without loading it.

    Args:
        config: what to start from.
        resolution: side of the images in pixels.

    Raises:
        ConfigError, InputError: when no tiny model of these sizes can be built, the pretrained folder isn't a whole
            Stable Diffusion folder with safetensors, or has no layer that an adaptation names.
    """
    if config.pretrained is None:
        check_tiny(config, resolution)
        return
    source = find(config.pretrained, config.local_files_only)
    check_layout(source)
    vae, unet = (json.loads((source / part / "config.json").read_text()) for part in ("vae", "unet"))
    halvings = len(vae["block_out_channels"]) + len(unet["block_out_channels"]) - 2
    if resolution % 2**halvings:
        raise InputError(f"ingest.resolution {resolution} isn't a multiple of {2**halvings}, which {source} asks for")
    if config.lora:
        _check_targets(config.lora, unet)


def _check_targets(lora: LoraConfig, description: Mapping[str, Any]) -> None:
    """Refuse names of layers that a UNet doesn't have; it is built without weights."""
    with torch.device("meta"):
        layers = [name for name, _ in UNet2DConditionModel.from_config(description).named_modules()]
    strange = [name for name in lora.target_modules if not any(f".{layer}".endswith(f".{name}") for layer in layers)]
    if strange:
        raise ConfigError(f"lora.target_modules: the UNet has no layer named {', '.join(strange)}")


def prepare_initial(config: DiffusionConfig, *, resolution: int, seed: int, folder: Path) -> None:
    """Write the folder that training starts from: a fresh tiny model, or a copy of public weights.

    Args:
        config: `pretrained` names what to copy, and then the sizes and the kind of prediction are the copy's own;
            without it they build a tiny model.
        resolution: side of the images in pixels.
        seed: of the fresh weights.
        folder: where to write; must not exist or be empty.

    Raises:
        InputError: when the pretrained folder isn't a whole Stable Diffusion folder with safetensors, or can't make
            images of that resolution.
    """
    if config.pretrained is None:
        build_tiny(config, resolution=resolution, seed=seed, folder=folder)
        return
    check_start(config, resolution)
    pipeline = load_pipeline(find(config.pretrained, config.local_files_only))
    pipeline.unet.register_to_config(sample_size=resolution // pipeline.vae_scale_factor)
    save(pipeline, folder)


def load(folder: Path, device: str = "cpu") -> Components:
    """Load the parts of a Stable Diffusion folder in evaluation mode, float32.

    Args:
        folder: the folder.
        device: a torch device.

    Raises:
        InputError: when something is missing.
    """
    check_layout(folder)
    parts = load_pipeline(folder).to(device)
    for module in (parts.text_encoder, parts.vae, parts.unet):
        module.eval()
    return Components(parts.tokenizer, parts.text_encoder, parts.vae, parts.unet, parts.scheduler)


def image_side(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> int:
    """Side in pixels of a model's images, by the descriptions of two of its parts."""
    halvings = len(vae["block_out_channels"]) - 1
    return int(unet["sample_size"]) << halvings


@torch.inference_mode()
def encode_images(vae: AutoencoderKL, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Encode grey images to scaled latents, the mean of the posterior.

    Args:
        vae: the autoencoder.
        images: uint8 (N, R, R).

    Returns:
        float32 (N, C, R/f, R/f); C = 4, and f = 4 for the tiny model.
    """
    size = _at_a_time(images.shape[-1])
    chunks = [_encode(vae, images[start : start + size]) for start in range(0, len(images), size)]
    return np.concatenate(chunks).astype(np.float32)


def _at_a_time(resolution: int) -> int:
    return max(1, PIXELS // resolution**2)


def _encode(vae: AutoencoderKL, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = torch.from_numpy(np.ascontiguousarray(images)).to(vae.device, vae.dtype) / 127.5 - 1.0
    latents = vae.encode(grey[:, None].expand(-1, vae.config.in_channels, -1, -1)).latent_dist.mean
    return np.asarray((latents * vae.config.scaling_factor).float().cpu().numpy())


@torch.inference_mode()
def decode_latents(vae: AutoencoderKL, latents: torch.Tensor) -> NDArray[np.uint8]:
    """Decode scaled latents to grey images, the mean over the colour channels.

    Args:
        vae: the autoencoder.
        latents: float (N, C, R/f, R/f).

    Returns:
        uint8 (N, R, R).
    """
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    chunks = torch.split(latents, _at_a_time(latents.shape[-1] * scale))
    return np.concatenate([_decode(vae, chunk) for chunk in chunks])


def _decode(vae: AutoencoderKL, latents: torch.Tensor) -> NDArray[np.uint8]:
    colour: torch.Tensor = vae.decode(latents.to(vae.device, vae.dtype) / vae.config.scaling_factor).sample
    grey = (colour.float().mean(dim=1) + 1.0) * 127.5
    return grey.round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def tokenize(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> NDArray[np.int64]:
    """Turn prompts into token ids, cut and padded to the tokenizer's length.

    Args:
        tokenizer: of the model's folder.
        prompts: N texts; an empty one is the unconditional prompt.

    Returns:
        int64 (N, L).
    """
    length = tokenizer.model_max_length
    encoded = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=length)
    return np.asarray(encoded.input_ids, dtype=np.int64).reshape(len(prompts), length)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the tokenizer alone."""
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def too_long(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> list[str]:
    """Return the prompts of which `tokenize` loses the end."""
    lengths = [len(ids) for ids in tokenizer(list(prompts)).input_ids]
    return [p for p, length in zip(prompts, lengths, strict=True) if length > tokenizer.model_max_length]


def reconstruction_error(vae: AutoencoderKL, images: NDArray[np.uint8]) -> dict[str, float]:
    """Measure what an image loses on its way through the autoencoder.

    Args:
        vae: the autoencoder.
        images: uint8 (N, R, R).

    Returns:
        `mae`: mean absolute error in grey levels of 255; `psnr`: mean over images of 20 log10(255 / rmse), in dB.
    """
    decoded = decode_latents(vae, torch.from_numpy(encode_images(vae, images)))
    difference = decoded.astype(np.float64) - images
    squared = np.maximum((difference**2).mean(axis=(1, 2)), 1e-12)
    return {"mae": float(np.abs(difference).mean()), "psnr": float((10 * np.log10(255**2 / squared)).mean())}
