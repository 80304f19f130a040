"""Make or measure the public weights that ship with the package.

`python jobs/public_weights.py --train` writes the autoencoder (about 20 minutes on one core), `--tokenizer` the
tokenizer (seconds), `--reid KIND` a re-identification network (half an hour a kind). `--measure FILE` prints the
autoencoder's reconstruction error on the pictures of a Parquet file, `--measure phantom` on phantoms that it was not
trained on.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL

from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import PACKAGED, Backbone, DeepSpeedConfig, OptimizerConfig
from raydistill.data.prompts import template_texts
from raydistill.diffusion import public_weights
from raydistill.diffusion.tiny import PUBLIC
from raydistill.diffusion.tokenizer import write_tokenizer
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.job import TrainJob
from raydistill.distributed.train import train_here
from raydistill.reid import public_weights as reid_weights
from raydistill.reid.model import PUBLIC as REID_PUBLIC


def train(folder: Path, weights: str, **how: Any) -> None:
    """Train through the one loop, in this process, and write to `folder`/`weights`; `how` is the rest of the job."""
    alone = {"deepspeed": DeepSpeedConfig(zero_stage=0), "compute": Compute(num_workers=1)}
    with tempfile.TemporaryDirectory() as scratch:
        places = {"out": Store.open(str(folder)), "weights": weights, "work": Store.open(scratch)}
        train_here(TrainJob(**places, **alone, **how))


def autoencoder(steps: int, pictures: int) -> dict[str, Any]:
    """Say how the autoencoder is trained."""
    how = {"weight_decay": 0.0, "warmup_steps": min(100, steps // 2), "schedule": "cosine"}
    return {
        "make_objective": partial(public_weights.AutoencoderObjective, pictures, steps),
        "optimizer": OptimizerConfig(steps=steps, batch_size=8, lr=public_weights.LEARNING_RATE, **how),
        "ema_decay": public_weights.EMA_DECAY,
        "seed": public_weights.SEED,
    }


def reid(kind: Backbone, steps: int) -> dict[str, Any]:
    """Say how a re-identification network is trained."""
    return {
        "make_objective": partial(reid_weights.PublicReidObjective, kind, steps),
        "optimizer": reid_weights.config(kind, steps).optimizer,
        "ema_decay": None,
        "seed": reid_weights.SEED,
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write; by default where the package has them")
    parser.add_argument("--tokenizer", action="store_true", help="write the tokenizer")
    parser.add_argument("--train", action="store_true", help="train and write the autoencoder")
    parser.add_argument("--reid", choices=PACKAGED, help="train and write a re-identification network")
    parser.add_argument("--steps", type=int, help="other than those of the package's weights")
    parser.add_argument("--pictures", type=int, default=2000, help="pictures of each kind")
    parser.add_argument("--measure", metavar="FILE", help="a Parquet file, `phantom` or `pictures`")
    arguments = parser.parse_args()
    prepare_libraries()
    folder = arguments.folder or PUBLIC
    if arguments.tokenizer:
        write_tokenizer(template_texts(), folder / "tokenizer")
    if arguments.train:
        train(folder, "vae", **autoencoder(arguments.steps or public_weights.STEPS, arguments.pictures))
    if arguments.reid:
        how = reid(arguments.reid, arguments.steps or reid_weights.STEPS)
        train(arguments.folder or REID_PUBLIC, arguments.reid, **how)
    if arguments.measure:
        vae = AutoencoderKL.from_pretrained(folder / "vae")
        print(json.dumps(public_weights.measured(arguments.measure, vae)))


if __name__ == "__main__":
    main()
