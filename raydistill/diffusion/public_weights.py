"""The public weights that ship with the package: an autoencoder and a tokenizer that never saw a cohort.

`jobs/public_weights.py` makes and measures them.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from raydistill.core.seeds import derive_seed, generator
from raydistill.data.phantom import render
from raydistill.diffusion.components import reconstruction_error
from raydistill.diffusion.pictures import draw

Pool = NDArray[np.uint8]
SEED = derive_seed(0, "public weights")
STEPS, BATCH_PIXELS, LEARNING_RATE = 6000, 8 * 64 * 64, 2e-3
KL_WEIGHT, EDGE_WEIGHT, EMA_DECAY = 1e-3, 0.5, 0.999


def autoencoder() -> AutoencoderKL:
    """Return the untrained autoencoder: Stable Diffusion's class at 0.4 M parameters, 4x smaller each way."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        norm_num_groups=8,
        latent_channels=4,
        mid_block_add_attention=False,
        sample_size=64,
        scaling_factor=1.0,
    )


def pools(count: int) -> list[Pool]:
    """Draw the training pictures: half procedural, half phantoms, each uint8 (count, R, R), R of 128, 64 and 32."""
    side = 128
    pictures = draw(count, side=side, seed=SEED)
    patients = np.arange(count)
    radiographs = [_phantoms(patients, resolution) for resolution in (side, 64, 32)]
    return [pictures, _halve(pictures), _halve(_halve(pictures)), *radiographs]


def _phantoms(patients: NDArray[np.int64], resolution: int) -> Pool:
    return render(patients, np.zeros_like(patients), seed=SEED, resolution=resolution).images


def _halve(pool: Pool) -> Pool:
    count, side, _ = pool.shape
    means = pool.reshape(count, side // 2, 2, side // 2, 2).mean(axis=(2, 4))
    return np.asarray(np.rint(means), dtype=np.uint8)


def batch(source: list[Pool], step: int) -> torch.Tensor:
    """Return random crops of 32 to 64 pixels, turned and mirrored, float32 (B, 3, S, S) in [-1, 1], B * S * S fixed."""
    rng = generator(SEED, "batch", step)
    pool = source[rng.integers(len(source))]
    side = min(int(rng.choice([32, 48, 64])), pool.shape[1])
    rows = rng.integers(len(pool), size=BATCH_PIXELS // side**2)
    top, left = rng.integers(pool.shape[1] - side + 1, size=2)
    crop = np.rot90(pool[rows, top : top + side, left : left + side], int(rng.integers(4)), axes=(1, 2))
    crop = crop[:, :, :: rng.choice([-1, 1])]
    return torch.from_numpy(np.ascontiguousarray(crop, dtype=np.float32) / 127.5 - 1.0)[:, None].repeat(1, 3, 1, 1)


class Reconstruction(nn.Module):
    """An autoencoder with the loss of what it makes of images."""

    def __init__(self, vae: AutoencoderKL) -> None:
        """Hold the autoencoder."""
        super().__init__()
        self.vae = vae

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Absolute error of pixels and of their differences, and a weak pull of the latents to a unit Gaussian."""
        posterior = self.vae.encode(images).latent_dist
        decoded = self.vae.decode(posterior.sample()).sample.float()
        edges = sum(functional.l1_loss(decoded.diff(dim=axis), images.diff(dim=axis)) for axis in (2, 3))
        pull = posterior.kl().mean() / posterior.mean[0].numel()
        loss: torch.Tensor = functional.l1_loss(decoded, images) + EDGE_WEIGHT * edges + KL_WEIGHT * pull
        return loss


class AutoencoderObjective:
    """An `Objective` of the training loop, for one worker: a batch is cut from the pictures as a whole.

    Args:
        pictures: of each kind.
        steps: of the whole training.
    """

    def __init__(self, pictures: int, steps: int) -> None:
        """Draw the pictures."""
        self.source, self.steps = pools(pictures), steps

    def build(self) -> nn.Module:
        """Return the untrained autoencoder and its loss."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED % 2**32)
            return Reconstruction(autoencoder()).train()

    def loss(self, model: nn.Module, step: int, part: slice, rows: Any) -> torch.Tensor:
        """Return the loss of a step's batch."""
        # The last quarter runs in full precision: bfloat16 alone is an error of about one grey level.
        with torch.autocast("cpu", torch.bfloat16, enabled=step < 0.75 * self.steps):
            loss: torch.Tensor = model(batch(self.source, step))
        return loss

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the autoencoder, its latents brought to mean 0 and standard deviation 1."""
        trained: Any = model
        standardised(trained.vae, self.source).save_pretrained(folder)


@torch.inference_mode()
def standardised(vae: AutoencoderKL, source: list[Pool]) -> AutoencoderKL:
    """Fold a shift and a scale into the 1x1 convolutions beside the latents, so that each channel has mean 0, std 1.

    Plain diffusers then decodes right with a scaling factor of 1, and the diffusion model sees what it assumes.
    """
    copy = autoencoder()
    copy.load_state_dict(vae.state_dict())
    copy.eval()
    images = torch.cat([batch(source, step)[:8, :, :32, :32] for step in range(60)])
    latents = copy.encode(images).latent_dist.mean
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    outward, inward = copy.quant_conv, copy.post_quant_conv
    inward.bias += inward.weight[:, :, 0, 0] @ mean
    inward.weight *= std[None, :, None, None]
    outward.bias[:4] = (outward.bias[:4] - mean) / std
    outward.weight[:4] /= std[:, None, None, None]
    outward.bias[4:] -= 2 * std.log()
    return copy


def measured(source: str, vae: AutoencoderKL) -> dict[str, dict[str, float]]:
    """Measure the reconstruction error on `phantom`, on `pictures`, or on the `image` column of a Parquet file.

    Returns:
        `reconstruction_error` at 64 and at 32 pixels.
    """
    if source == "phantom":
        patients = np.arange(500)
        images = render(patients, np.zeros_like(patients), seed=derive_seed(SEED, "held out"), resolution=64).images
    elif source == "pictures":
        images = draw(500, side=64, seed=derive_seed(SEED, "held out"))
    else:
        images = _read(source, 64)
    return {"64": reconstruction_error(vae, images), "32": reconstruction_error(vae, _halve(images))}


def _read(path: str, resolution: int) -> Pool:
    encoded = pq.read_table(path, columns=["image"])["image"].to_pylist()
    grey = [Image.open(io.BytesIO(png)).convert("L").resize((resolution, resolution)) for png in encoded]
    return np.stack([np.asarray(image) for image in grey])
