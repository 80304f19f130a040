"""Make the public weights that ship with the package: an autoencoder and a tokenizer that never saw a cohort.

`python -m raydistill.diffusion.public_weights --train` writes `public/vae` (about 20 minutes on one core) and
`--tokenizer` writes `public/tokenizer` (seconds). `--measure FILE` prints the autoencoder's reconstruction error on
the pictures of a Parquet file, `--measure phantom` on phantoms that it was not trained on.
"""

import argparse
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from diffusers import AutoencoderKL
from diffusers.optimization import get_scheduler
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from raydistill.core.seeds import derive_seed, generator
from raydistill.data.phantom import render
from raydistill.data.prompts import template_texts
from raydistill.diffusion.components import reconstruction_error
from raydistill.diffusion.pictures import draw
from raydistill.diffusion.tiny import PUBLIC
from raydistill.diffusion.tokenizer import write_tokenizer

Pool = NDArray[np.uint8]
SEED = derive_seed(0, "public weights")
STEPS, BATCH_PIXELS, LEARNING_RATE = 6000, 8 * 64 * 64, 2e-3
KL_WEIGHT, EDGE_WEIGHT, EMA_DECAY = 1e-3, 0.5, 0.999
log = logging.getLogger(__name__)


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


def batches(source: list[Pool], steps: int) -> Iterator[torch.Tensor]:
    """Yield random crops of 32 to 64 pixels, turned and mirrored, float32 (B, 3, S, S) in [-1, 1], B * S * S fixed."""
    for step in range(steps):
        rng = generator(SEED, "batch", step)
        pool = source[rng.integers(len(source))]
        side = min(int(rng.choice([32, 48, 64])), pool.shape[1])
        rows = rng.integers(len(pool), size=BATCH_PIXELS // side**2)
        top, left = rng.integers(pool.shape[1] - side + 1, size=2)
        crop = np.rot90(pool[rows, top : top + side, left : left + side], int(rng.integers(4)), axes=(1, 2))
        crop = crop[:, :, :: rng.choice([-1, 1])]
        yield torch.from_numpy(np.ascontiguousarray(crop, dtype=np.float32) / 127.5 - 1.0)[:, None].repeat(1, 3, 1, 1)


def loss_of(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Absolute error of pixels and of their differences, and a weak pull of the latents to a unit Gaussian."""
    posterior = vae.encode(images).latent_dist
    decoded = vae.decode(posterior.sample()).sample.float()
    edges = sum(functional.l1_loss(decoded.diff(dim=axis), images.diff(dim=axis)) for axis in (2, 3))
    loss: torch.Tensor = (
        functional.l1_loss(decoded, images)
        + EDGE_WEIGHT * edges
        + KL_WEIGHT * posterior.kl().mean() / (posterior.mean[0].numel())
    )
    return loss


def train(folder: Path, steps: int, pictures: int) -> None:
    """Train the autoencoder and write it to `folder`, also every 1,000 steps on the way."""
    torch.manual_seed(SEED % 2**32)
    source, vae = pools(pictures), autoencoder()
    average = AveragedModel(vae, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=100, num_training_steps=steps)
    for step, images in enumerate(batches(source, steps), start=1):
        # The last quarter runs in full precision: bfloat16 alone is an error of about one grey level.
        with torch.autocast("cpu", torch.bfloat16, enabled=step < 0.75 * steps):
            loss = loss_of(vae, images)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(vae)
        if step % 1000 == 0 or step == steps:
            log.info("step %d of %d, loss %.4f", step, steps, loss.item())
            standardised(average.module, source).save_pretrained(folder)


@torch.inference_mode()
def standardised(vae: AutoencoderKL, source: list[Pool]) -> AutoencoderKL:
    """Fold a shift and a scale into the 1x1 convolutions beside the latents, so that each channel has mean 0, std 1.

    Plain diffusers then decodes right with a scaling factor of 1, and the diffusion model sees what it assumes.
    """
    copy = autoencoder()
    copy.load_state_dict(vae.state_dict())
    copy.eval()
    images = torch.cat([batch[:8, :, :32, :32] for batch in batches(source, 60)])
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


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m raydistill.diffusion.public_weights", description=__doc__)
    parser.add_argument("--folder", type=Path, default=PUBLIC)
    parser.add_argument("--tokenizer", action="store_true", help="write the tokenizer")
    parser.add_argument("--train", action="store_true", help="train and write the autoencoder")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--pictures", type=int, default=2000, help="pictures of each kind")
    parser.add_argument("--measure", metavar="FILE", help="a Parquet file, `phantom` or `pictures`")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.tokenizer:
        write_tokenizer(template_texts(), arguments.folder / "tokenizer")
    if arguments.train:
        train(arguments.folder / "vae", arguments.steps, arguments.pictures)
    if arguments.measure:
        vae = AutoencoderKL.from_pretrained(arguments.folder / "vae")
        log.info("%s", json.dumps(measured(arguments.measure, vae)))


if __name__ == "__main__":
    main()
