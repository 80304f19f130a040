"""Ask a model for synthetic images, piece by piece on an actor pool. What is asked follows from a row's number."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import SAMPLES
from raydistill.core.config import Config
from raydistill.core.errors import ConfigError, InputError
from raydistill.core.generation import SampleConfig
from raydistill.core.store import Store
from raydistill.data.images import encode_png
from raydistill.data.requests import Requests, digest, read_prompts, unknown_findings
from raydistill.diffusion.batches import Failure
from raydistill.diffusion.components import image_side
from raydistill.diffusion.sampling import Sampler, Way
from raydistill.distributed.data import map_shards
from raydistill.distributed.shards import Piece, Shard, cut
from raydistill.stages.base import Context, Outcome, Stage

SHARDS, FEWEST_ROWS, SHARD_BYTES = 64, 128, 256 * 2**20
"""Shards of a sample set, rows of the smallest, bytes of the largest; by default."""

COMPILERS = ("g++", "clang++")
"""What torch.compile looks for where it compiles for a CPU."""

MANY_ROWS = 10_000
"""Samples from which on a kill of all workers is to cost no more than 2 % of them, if a batch a piece allows."""

PNG_BYTES_PER_PIXEL = 0.7
"""Of grey radiographs, on the safe side: 0.60 of NIH's at 64 px; of larger ones it wasn't measured."""


class Sample(Stage):
    """Inputs: `model`, `prompts` (k-anonymous frequencies). Output: `samples/part-*.parquet`, sorted by `sample_id`."""

    version: ClassVar[int] = 3
    resumable: ClassVar[bool] = True
    config: SampleConfig

    def check(self, config: Config) -> None:
        """Refuse a table of prompts that can't be used, and to compile where nothing can."""
        if self.config.requests.table:
            try:
                read_prompts(self.config.requests.table)
            except InputError as error:
                raise InputError(f"{self.node}.requests.table: {error}") from None
        if self.config.compiled and not self.config.compute.num_gpus and not any(map(shutil.which, COMPILERS)):
            raise ConfigError(
                f"{self.node}.compiled: on a CPU torch compiles with {' or '.join(COMPILERS)}; neither is here"
            )

    def key_config(self) -> dict[str, Any]:
        """Name what decides the samples."""
        return deciding(super().key_config(), self.config)

    def root(self, context: Context) -> int:
        """Return the root of the samples' seeds."""
        return context.seed

    def run(self, context: Context) -> Outcome:
        """Make the pieces that aren't there yet."""
        requests, out = requests_of(context, self.config, self.root(context), self.node), context.out / "samples"
        total = requests.total(self.config.num_samples)
        per_shard = rows_per_shard(self.config, total, side_of(context.inputs["model"]))
        shards = cut(total, per_shard, rows_per_piece(self.config, total))
        make_samples(context, shards, requests, self.config)
        failed = sum(_failures(out, shard.name) for shard in shards)
        return Outcome(counts={"rows": total, "failed": failed}, facts=_prompt_facts(self.config))


class ReleasedSample(Sample):
    """Samples that leave, those at least that the filter keeps, together with the model that made them.

    With the seeds whoever has the model makes the others as well, and those are what the filter took for patients.
    """

    def root(self, context: Context) -> int:
        """Take a seed that can't be derived outside the run folder."""
        return context.private_seed


def deciding(dumped: dict[str, Any], config: SampleConfig) -> dict[str, Any]:
    """Put what is in a table of prompts into a key, not where it lies; how many are wanted in the end decides nothing.

    Args:
        dumped: a sampling's configuration as a key would have it.
        config: the same.
    """
    table = config.requests.table
    kept = {name: value for name, value in dumped.items() if name not in ("target_kept", "max_samples")}
    # Version of how prompts cross ways, where there are both: no other plan has changed.
    crossed = {"crossed": 2} if config.ways and config.requests.per_prompt else {}
    return kept | crossed | {"requests": dumped["requests"] | {"table": table and digest(table)}}


def requests_of(context: Context, config: SampleConfig, seed: int, node: str) -> Requests:
    """Return what is asked: of the train split's prompts, or of somebody's own.

    Args:
        context: with the input `prompts`.
        config: what is asked of the model.
        seed: of the node whose samples they are.
        node: that node's name.
    """
    own = config.requests.table
    frequencies = read_prompts(own) if own else context.inputs["prompts"].read_table()
    return Requests(frequencies, config.requests, seed, node, ways=config.ways)


def make_samples(context: Context, shards: Sequence[Shard], requests: Requests, config: SampleConfig) -> None:
    """Make the samples of some shards into `samples/`.

    Args:
        context: with the input `model`.
        shards: `first` being the number of a shard's first sample.
        requests: what is asked.
        config: how it is made, and by which workers.
    """
    map_shards(
        SamplePiece,
        {"model": context.inputs["model"], "requests": requests, "config": config},
        shards,
        out=context.out / "samples",
        work=context.work / "samples",
        compute=config.compute,
        progress=context.progress,
    )


def _prompt_facts(config: SampleConfig) -> dict[str, Any]:
    if config.requests.table is None:
        return {"prompts": "k-anonymous frequencies of the train split"}
    said = (
        f"prompts are those of {Path(config.requests.table).name}, whose author vouches for what they say of patients"
    )
    notes, unknown = [said], unknown_findings(read_prompts(config.requests.table))
    if unknown:
        notes.append(
            f"that table's finding {unknown[0]!r} isn't of the public vocabulary: is it the cohort's word for it?"
        )
    return {"prompts": said, "notes": notes}


def side_of(model: Store) -> int:
    """Side in pixels of the images that a model makes."""
    return image_side(*(model.read_json(f"{part}/config.json") for part in ("unet", "vae")))


def rows_per_shard(config: SampleConfig, total: int, side: int) -> int:
    """Rows of a shard where there are `total` images of a side in pixels."""
    largest = int(SHARD_BYTES / (PNG_BYTES_PER_PIXEL * side**2))
    return config.rows_per_shard or max(FEWEST_ROWS, min(-(-total // SHARDS), largest))


def rows_per_piece(config: SampleConfig, total: int) -> int:
    """Rows of a piece where there are `total`: of many so few that a kill costs 2 %, two pieces a worker."""
    if total < MANY_ROWS:
        return config.rows_per_piece
    batches = total // (100 * config.compute.max_workers * config.batch_size)
    return min(config.rows_per_piece, max(1, batches) * config.batch_size)


def _failures(samples: Store, shard: str) -> int:
    column = samples.read_table(shard, columns=["failure"])["failure"]
    return int(len(column) - column.null_count)


class SamplePiece:
    """Makes a piece of the samples. Built on an actor: loads the model once."""

    def __init__(self, model: Store, requests: Requests, config: SampleConfig) -> None:
        """Load the model onto the device the configuration reserves."""
        self.sampler = Sampler(model.keep_local(), config.compute.device, config.precision, config.compiled)
        self.way = Way(config.guidance_scale, config.num_inference_steps, config.batch_size, config.solver)
        self.requests = requests

    def __call__(self, piece: Piece) -> tuple[pa.Table]:
        """Return the samples of a piece; an image that can't be made keeps its row and a reason."""
        requests = self.requests.rows(range(piece.first, piece.first + piece.rows))
        made: dict[int, bytes | Failure] = {}
        for way, rows in self._by_way(requests).items():
            asked = requests.take(pa.array(rows))
            prompts, seeds = (asked[name].to_pylist() for name in ("prompt", "seed"))
            made |= zip(rows, self.sampler.finished(_encoded, prompts, seeds, way), strict=True)
        finished = [made[row] for row in range(requests.num_rows)]
        images = pa.array([None if isinstance(image, Failure) else image for image in finished], pa.binary())
        failures = pa.array([image.reason if isinstance(image, Failure) else None for image in finished], pa.string())
        return (pa.Table.from_arrays([*requests.columns, images, failures], schema=SAMPLES),)

    def _by_way(self, requests: pa.Table) -> dict[Way, list[int]]:
        """Return the rows that are made in each way: the usual one, where a row says nothing of it."""
        rows: dict[Way, list[int]] = {}
        asked = zip(*(requests[name].to_pylist() for name in ("guidance_scale", "num_inference_steps")), strict=True)
        for row, (guidance, steps) in enumerate(asked):
            own = self.way if steps is None else replace(self.way, guidance_scale=guidance, num_inference_steps=steps)
            rows.setdefault(own, []).append(row)
        return rows


def _encoded(images: NDArray[np.uint8]) -> Sequence[bytes | Failure]:
    blank = np.ptp(images.reshape(len(images), -1), axis=1) == 0
    return [
        Failure("one grey level everywhere") if is_blank else encode_png(image)
        for image, is_blank in zip(images, blank, strict=True)
    ]
