"""Images a second on a GPU: a UNet of Stable Diffusion 1.5's size, latents already made, bf16. A bare PyTorch loop."""

import time

import torch
from torch.nn.functional import mse_loss
from train_models import TOKENS, Sizes

BATCHES = {64: 64, 256: 32, 512: 8}
"""Images a step, by their side in pixels."""

WARM, STEPS = 5, 20


def images_per_s(side: int, compiled: bool) -> float:
    """Train on random latents of images of a side, and count after the warm-up."""
    device = torch.device("cuda")
    unet = Sizes(1).unet().to(device)
    model = torch.compile(unet) if compiled else unet
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, fused=True)
    latents = torch.randn(BATCHES[side], 4, side // 8, side // 8, device=device)
    words = torch.randn(BATCHES[side], TOKENS, 768, device=device)
    for step in range(WARM + STEPS):
        if step == WARM:
            torch.cuda.synchronize()
            start = time.perf_counter()
        times = torch.randint(1000, (len(latents),), device=device)
        with torch.autocast("cuda", torch.bfloat16):
            loss = mse_loss(model(latents, times, words).sample.float(), torch.randn_like(latents))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.cuda.synchronize()
    return STEPS * len(latents) / (time.perf_counter() - start)


def measured() -> dict[str, dict[str, float]]:
    """Images a second by side, without and with torch.compile; empty where there is no GPU."""
    if not torch.cuda.is_available():
        return {}
    return {
        f"{side} px": {name: images_per_s(side, name == "compiled") for name in ("eager", "compiled")}
        for side in BATCHES
    }
