"""What sampling and training a diffusion model will cost: operations counted, time guessed from them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from raydistill.core.section import Compute
from raydistill.core.training import DiffusionConfig
from raydistill.data.operations import counted, gpu_hours, operators, seconds_per_row
from raydistill.diffusion.provenance import folder_of
from raydistill.diffusion.tiny import unet_of

TOKENS = 77

BACKWARD = 2
"""Operations of a backward pass, in forward passes: a gradient by the input and one by the weights of each product.
Source: Kaplan et al., arXiv 2001.08361, section 2.1."""


@dataclass(frozen=True)
class Pace:
    """How fast a worker computes.

    Attributes:
        compute: its size.
        precision: fp32, bf16 or fp16.
        rows: that it computes at a time.
    """

    compute: Compute
    precision: str
    rows: int


@dataclass(frozen=True)
class Cost:
    """What is to be computed, and by whom.

    Attributes:
        tflop: 10^12 operations.
        unet: description of the UNet that most of them are of.
        pace: of a worker.
        calls: of the UNet's forward pass with a batch, or what takes as many operators.
    """

    tflop: float
    unet: str
    pace: Pace
    calls: float

    def hours(self) -> tuple[float | None, str]:
        """Return the hours of one worker, None where nothing is known of them, and what they rest on.

        Where workers compute on CPUs a pass is timed here.
        """
        if self.pace.compute.num_gpus:
            return gpu_hours(self.tflop, self.calls * _operators(self.unet), self.pace.compute, self.pace.precision)
        seconds, basis = _on_cpu(self)
        return None if seconds is None else seconds / 3600, basis


def sampling(model: DiffusionConfig, images: float, passes: float, resolution: int, pace: Pace) -> Cost:
    """Estimate what it costs to make images: passes of the UNet, and the decoder.

    Args:
        model: of which kind it is.
        images: how many.
        passes: of the UNet, for all images together.
        resolution: side of the images in pixels.
        pace: of a worker.
    """
    unet, vae = _descriptions(model, resolution)
    total = passes * _flops(json.dumps(unet)) + images * _decoding_flops(json.dumps(vae), unet["sample_size"])
    return Cost(total / 1e12, json.dumps(unet), pace, passes / pace.rows)


def training(model: DiffusionConfig, rows: float, resolution: int, pace: Pace) -> Cost:
    """Estimate what it costs to train on encoded rows: the UNet forward and backward; the text encoder isn't counted.

    Args:
        model: what is trained.
        rows: of all steps together.
        resolution: side of the images in pixels.
        pace: of a worker.
    """
    unet = json.dumps(_descriptions(model, resolution)[0])
    passes = rows * forward_passes(model)
    return Cost(passes * _flops(unet) / 1e12, unet, pace, passes / pace.rows)


def forward_passes(model: DiffusionConfig) -> int:
    """Return what a row of training takes, in forward passes.

    Frozen weights have no gradient of their own; activations that aren't kept are computed again (Chen et al., arXiv
    1604.06174).
    """
    backward = BACKWARD - 1 if model.lora else BACKWARD
    return 1 + backward + int(model.deepspeed.gradient_checkpointing)


def _descriptions(model: DiffusionConfig, resolution: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    folder = folder_of(model)
    vae = json.loads((folder / "vae" / "config.json").read_text())
    side = resolution >> (len(vae["block_out_channels"]) - 1)
    if model.pretrained is None:
        with torch.device("meta"):
            return dict(unet_of(model, side).config), vae
    return json.loads((folder / "unet" / "config.json").read_text()) | {"sample_size": side}, vae


def _shapes(unet: Mapping[str, Any], rows: int) -> Sequence[Sequence[int]]:
    side = unet["sample_size"]
    return (rows, unet["in_channels"], side, side), (rows,), (rows, TOKENS, unet["cross_attention_dim"])


@lru_cache
def _flops(unet: str) -> int:
    described = json.loads(unet)
    return counted(lambda: UNet2DConditionModel.from_config(described), _shapes(described, 1))


@lru_cache
def _operators(unet: str) -> int:
    described = json.loads(unet)
    return operators(lambda: UNet2DConditionModel.from_config(described), _shapes(described, 1))


@lru_cache
def _decoding_flops(vae: str, side: int) -> int:
    described = json.loads(vae)
    return counted(lambda: AutoencoderKL.from_config(described).decode, [(1, described["latent_channels"], side, side)])


@lru_cache
def _seconds_per_pass(unet: str, rows: int) -> float | None:
    described = json.loads(unet)
    return seconds_per_row(
        lambda: UNet2DConditionModel.from_config(described).eval(), partial(_shapes, described), rows
    )


def _on_cpu(cost: Cost) -> tuple[float | None, str]:
    seconds = _seconds_per_pass(cost.unet, cost.pace.rows)
    if seconds is None:
        return None, "no time: too large a model to be timed on a CPU"
    passes = 1e12 * cost.tflop / _flops(cost.unet)
    return passes * seconds, "counted: a pass of the UNet timed on one thread here"
