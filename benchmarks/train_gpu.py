"""Images a second on a GPU: a UNet of Stable Diffusion 1.5's size, latents already made, bf16, one worker.

The engine is raydistill's own: ZeRO-1, float32 masters, moving average, clipping. Beside it, a bare PyTorch loop, and
our loop on a compiled UNet, which is no setting of raydistill's.
"""

import gc
import os
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from train_models import TOKENS, Sizes

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.training import OptimizerConfig
from raydistill.diffusion.objective import Denoiser
from raydistill.distributed.engine import Engine
from raydistill.distributed.stream import Parts
from raydistill.distributed.train import form_group_of_one

BATCHES = {64: 64, 256: 32, 512: 8}
"""Images a step, by their side in pixels."""

KINDS = {"bare loop": (False, False), "raydistill": (True, False), "raydistill, torch.compile": (True, True)}
"""Whose loop, and whether its UNet is compiled."""

WARM, STEPS = 5, 20

Step = Callable[[Tensor, Tensor], None]


def bare(model: Denoiser) -> Step:
    """Return a step of plain PyTorch under autocast, given latents and words."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(latents: Tensor, words: Tensor) -> None:
        times = torch.randint(1000, (len(latents),), device=latents.device)
        with torch.autocast(latents.device.type, torch.bfloat16):
            loss = mse_loss(model(latents, times, words).float(), torch.randn_like(latents))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def engine(model: Denoiser, rows: int) -> Step:
    """Return a step of raydistill's engine."""
    how = OptimizerConfig(steps=WARM + STEPS, batch_size=rows, lr=1e-4)
    held = Engine(model, how, DeepSpeedConfig(zero_stage=1, precision="bf16"), Parts(rows, 1, 1), 0.999, None)

    def step(latents: Tensor, words: Tensor) -> None:
        times = torch.randint(1000, (len(latents),), device=latents.device)
        predicted = held.wrapped(latents.bfloat16(), times, words.bfloat16())
        held.learn(iter([mse_loss(predicted.float(), torch.randn_like(latents))]))

    return step


def images_per_s(sizes: Sizes, side: int, rows: int, kind: str, device: str, steps: int = STEPS) -> float:
    """Train on random latents of images of a side, and count after the warm-up."""
    is_ours, is_compiled = KINDS[kind]
    model = Denoiser(sizes.unet().to(device), None)
    if is_compiled:
        model.unet.compile()
    step = engine(model, rows) if is_ours else bare(model)
    latents = torch.randn(rows, 4, side // 8, side // 8, device=device)
    words = torch.randn(rows, TOKENS, 768 // sizes.divisor, device=device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for number in range(WARM + steps):
        if number == WARM:
            wait()
            start = time.perf_counter()
        step(latents, words)
    wait()
    return steps * rows / (time.perf_counter() - start)


def measured() -> dict[str, dict[str, float]]:
    """Images a second by side and kind; empty where there is no GPU."""
    if not torch.cuda.is_available():
        return {}
    os.environ["DS_ACCELERATOR"] = "cuda"
    form_group_of_one()
    found: dict[str, dict[str, float]] = {}
    for side, rows in BATCHES.items():
        for kind in KINDS:
            found.setdefault(f"{side} px", {})[kind] = images_per_s(Sizes(1), side, rows, kind, "cuda")
            # An engine holds on to itself: else the next model would find the card full.
            gc.collect()
            torch.cuda.empty_cache()
    return found
