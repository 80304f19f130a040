"""Ask a model for synthetic images, piece by piece on an actor pool. What is asked follows from a row's number."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import REQUESTS, SAMPLES
from raydistill.core.config import SampleConfig
from raydistill.core.store import Store
from raydistill.data.images import encode_png
from raydistill.data.prompts import plan_requests
from raydistill.diffusion.components import image_side
from raydistill.diffusion.sampling import Failure, Sampler, Way
from raydistill.distributed.data import map_shards
from raydistill.distributed.shards import Piece, cut
from raydistill.stages.base import Context, Outcome, Stage

SHARDS, FEWEST_ROWS, SHARD_BYTES = 64, 128, 256 * 2**20
"""Shards of a sample set, rows of the smallest, bytes of the largest; by default."""

PNG_BYTES_PER_PIXEL = 0.7
"""Of grey radiographs: 0.6 to 0.75 at 64 px (NIH) as at 512."""


class Sample(Stage):
    """Inputs: `model`, `prompts` (k-anonymous frequencies). Output: `samples/part-*.parquet`, sorted by `sample_id`."""

    version: ClassVar[int] = 2
    resumable: ClassVar[bool] = True
    config: SampleConfig

    def run(self, context: Context) -> Outcome:
        """Make the pieces that aren't there yet."""
        model, out = context.inputs["model"], context.out / "samples"
        side = image_side(*(model.read_json(f"{part}/config.json") for part in ("unet", "vae")))
        shards = cut(self.config.num_samples, rows_per_shard(self.config, side), self.config.rows_per_piece)
        arguments = {
            "model": model,
            "prompts": context.inputs["prompts"],
            "config": self.config,
            "seed": context.seed,
            "node": self.node,
        }
        map_shards(
            SamplePiece,
            arguments,
            shards,
            out=out,
            work=context.work,
            compute=self.config.compute,
            progress=context.progress,
        )
        failed = sum(_failures(out, shard.name) for shard in shards)
        return Outcome(counts={"rows": self.config.num_samples, "failed": failed}, facts={})


def rows_per_shard(config: SampleConfig, side: int) -> int:
    """Rows of a shard of images of a side in pixels."""
    largest = int(SHARD_BYTES / (PNG_BYTES_PER_PIXEL * side**2))
    return config.rows_per_shard or max(FEWEST_ROWS, min(-(-config.num_samples // SHARDS), largest))


def _failures(samples: Store, shard: str) -> int:
    column = samples.read_table(shard, columns=["failure"])["failure"]
    return int(len(column) - column.null_count)


class SamplePiece:
    """Makes a piece of the samples. Built on an actor: loads the model once."""

    def __init__(self, model: Store, prompts: Store, config: SampleConfig, seed: int, node: str) -> None:
        """Load the model onto the device the configuration reserves."""
        self.sampler = Sampler(model.keep_local(), config.compute.device, config.precision, config.compiled)
        self.frequencies = prompts.read_table()
        self.way = Way(config.guidance_scale, config.num_inference_steps, config.batch_size, config.solver)
        self.seed, self.node = seed, node

    def __call__(self, piece: Piece) -> tuple[pa.Table]:
        """Return the samples of a piece; an image that can't be made keeps its row and a reason."""
        numbers = range(piece.first, piece.first + piece.rows)
        requests = plan_requests(self.frequencies, numbers, self.seed, self.node).cast(REQUESTS)
        made = self.sampler.finished(
            _encoded,
            requests["prompt"].to_pylist(),
            requests["seed"].to_pylist(),
            self.way,
        )
        images = pa.array([None if isinstance(image, Failure) else image for image in made], pa.binary())
        failures = pa.array([image.reason if isinstance(image, Failure) else None for image in made], pa.string())
        return (pa.Table.from_arrays([*requests.columns, images, failures], schema=SAMPLES),)


def _encoded(images: NDArray[np.uint8]) -> Sequence[bytes | Failure]:
    blank = np.ptp(images.reshape(len(images), -1), axis=1) == 0
    return [
        Failure("one grey level everywhere") if is_blank else encode_png(image)
        for image, is_blank in zip(images, blank, strict=True)
    ]
