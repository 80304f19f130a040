"""What sampling will cost, before any of it is paid: operations counted, time guessed from them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from raydistill.core.generation import SampleConfig
from raydistill.core.training import DiffusionConfig
from raydistill.diffusion.provenance import folder_of
from raydistill.diffusion.tiny import unet_of

PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "A10G": 70, "L40S": 362, "L4": 121, "V100": 112, "T4": 65}
"""Dense half-precision peak of accelerators by Ray's names of them, in TFLOP/s. Source: NVIDIA's data sheets."""

UTILISATION = 0.3
"""Share of the peak that a UNet of Stable Diffusion's kind is reckoned to reach; single precision: half of that."""

MEASURED_FLOPS = 2e11
"""A forward pass of so many operations is timed here, where workers compute on CPUs; a larger one takes too long."""

TOKENS = 77


@dataclass(frozen=True)
class Cost:
    """What one sampling node will take.

    Attributes:
        samples: images.
        passes: of the UNet for each image: steps, twice with guidance.
        tflop: 10^12 operations in all, of the UNet and the decoder.
        hours: of one worker; None where nothing is known of it.
        basis: what `hours` rests on.
    """

    samples: int
    passes: int
    tflop: float
    hours: float | None
    basis: str

    def said(self, workers: int, price: float | None) -> str:
        """Say it in a line."""
        what = f"{self.samples:,} images x {self.passes} UNet passes, {self.tflop:.3g} TFLOP"
        if self.hours is None:
            return f"{what}; {self.basis}"
        took = _duration(3600 * self.hours / workers)
        paid = f", {price * self.hours:.2f} at {price:g} a worker and hour" if price else ""
        return f"{what}: about {took} of computing on {workers} worker{'s' if workers > 1 else ''}{paid} ({self.basis})"


def estimate(model: DiffusionConfig, config: SampleConfig, samples: int, resolution: int) -> Cost:
    """Estimate what it costs to sample from a model.

    Args:
        model: of which kind it is.
        config: what is asked of it, and by which workers.
        samples: images.
        resolution: side of the images in pixels.
    """
    unet, vae = _descriptions(model, resolution)
    passes = config.num_inference_steps * (1 if config.guidance_scale == 1.0 else 2)
    per_pass = _flops(unet)
    total = float(samples) * (passes * per_pass + _decoding_flops(vae, unet["sample_size"]))
    seconds, basis = _seconds(total, per_pass, unet, config)
    return Cost(samples, passes, total / 1e12, None if seconds is None else seconds / 3600, basis)


def _descriptions(model: DiffusionConfig, resolution: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    folder = folder_of(model)
    vae = json.loads((folder / "vae" / "config.json").read_text())
    side = resolution >> (len(vae["block_out_channels"]) - 1)
    if model.pretrained is None:
        with torch.device("meta"):
            return dict(unet_of(model, side).config), vae
    return json.loads((folder / "unet" / "config.json").read_text()) | {"sample_size": side}, vae


def _unet_inputs(unet: Mapping[str, Any], rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    side = unet["sample_size"]
    words = torch.zeros(rows, TOKENS, unet["cross_attention_dim"])
    return torch.zeros(rows, unet["in_channels"], side, side), torch.zeros(rows), words


def _flops(unet: Mapping[str, Any]) -> int:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        UNet2DConditionModel.from_config(unet)(*_unet_inputs(unet, 1))
    return int(counter.get_total_flops())


def _decoding_flops(vae: Mapping[str, Any], side: int) -> int:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        AutoencoderKL.from_config(vae).decode(torch.zeros(1, vae["latent_channels"], side, side))
    return int(counter.get_total_flops())


def _seconds(total: float, per_pass: int, unet: Mapping[str, Any], config: SampleConfig) -> tuple[float | None, str]:
    compute = config.compute
    if compute.num_gpus:
        kind = (compute.accelerator_type or "").split("-")[0]
        if kind not in PEAK_TFLOPS:
            return None, f"no time: compute.accelerator_type {kind or 'null'} isn't one of {', '.join(PEAK_TFLOPS)}"
        share = UTILISATION / (2 if config.precision == "fp32" else 1)
        pace = PEAK_TFLOPS[kind] * 1e12 * share * min(1.0, compute.num_gpus)
        return total / pace, f"{kind} at {100 * share:.0f} % of its peak"
    rows = 2 * config.batch_size
    if rows * per_pass > MEASURED_FLOPS:
        return None, "no time: too large a model or batch to be timed on a CPU"
    return total / (rows * per_pass / _timed(unet, rows)), "a pass of the UNet timed on one thread here"


def _timed(unet: Mapping[str, Any], rows: int) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, inputs = UNet2DConditionModel.from_config(unet).eval(), _unet_inputs(unet, rows)
        taken = []
        with torch.inference_mode():
            for _ in range(3):
                start = time.perf_counter()
                model(*inputs)
                taken.append(time.perf_counter() - start)
        return min(taken)
    finally:
        torch.set_num_threads(threads)


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
