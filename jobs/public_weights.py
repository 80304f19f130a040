"""Make or measure the public weights that ship with the package.

`python jobs/public_weights.py --train` writes the autoencoder (about 20 minutes on one core), `--tokenizer` the
tokenizer (seconds). `--measure FILE` prints the autoencoder's reconstruction error on the pictures of a Parquet file,
`--measure phantom` on phantoms that it was not trained on.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

from diffusers import AutoencoderKL

from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import DeepSpeedConfig, OptimizerConfig
from raydistill.data.prompts import template_texts
from raydistill.diffusion import public_weights
from raydistill.diffusion.tiny import PUBLIC
from raydistill.diffusion.tokenizer import write_tokenizer
from raydistill.distributed.job import TrainJob
from raydistill.distributed.session import prepare_libraries
from raydistill.distributed.train import train_here


def train(folder: Path, steps: int, pictures: int) -> None:
    """Train the autoencoder through the one loop and write it to `folder`/vae."""
    how = {"weight_decay": 0.0, "warmup_steps": min(100, steps // 2), "schedule": "cosine"}
    with tempfile.TemporaryDirectory() as scratch:
        train_here(
            TrainJob(
                make_objective=partial(public_weights.AutoencoderObjective, pictures, steps),
                optimizer=OptimizerConfig(steps=steps, batch_size=8, lr=public_weights.LEARNING_RATE, **how),
                deepspeed=DeepSpeedConfig(zero_stage=0),
                compute=Compute(num_workers=1),
                ema_decay=public_weights.EMA_DECAY,
                out=Store.open(str(folder)),
                weights="vae",
                work=Store.open(scratch),
                seed=public_weights.SEED,
            )
        )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=PUBLIC)
    parser.add_argument("--tokenizer", action="store_true", help="write the tokenizer")
    parser.add_argument("--train", action="store_true", help="train and write the autoencoder")
    parser.add_argument("--steps", type=int, default=public_weights.STEPS)
    parser.add_argument("--pictures", type=int, default=2000, help="pictures of each kind")
    parser.add_argument("--measure", metavar="FILE", help="a Parquet file, `phantom` or `pictures`")
    arguments = parser.parse_args()
    prepare_libraries()
    if arguments.tokenizer:
        write_tokenizer(template_texts(), arguments.folder / "tokenizer")
    if arguments.train:
        train(arguments.folder, arguments.steps, arguments.pictures)
    if arguments.measure:
        vae = AutoencoderKL.from_pretrained(arguments.folder / "vae")
        print(json.dumps(public_weights.measured(arguments.measure, vae)))


if __name__ == "__main__":
    main()
