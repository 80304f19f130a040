"""Public features of some of the images of a folder: made by workers, and kept until the node that asks has ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.core.progress import Progress
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.diffusion.features import public_features
from raydistill.distributed.task import run_on_workers
from raydistill.stages.images import pixels

FEATURES = pa.schema([pa.field("id", pa.string()), pa.field("features", pa.list_(pa.float32()))])


@dataclass(frozen=True)
class Looked:
    """Which images of a folder are looked at: `ids` of its `column`."""

    images: Store
    column: str
    ids: pa.Array


@dataclass(frozen=True)
class Group:
    """A row group of a shard: what a worker decodes at a time."""

    role: str
    shard: str
    number: int

    @property
    def file(self) -> str:
        """Where its features lie."""
        return f"{self.role}/{self.shard.removesuffix('.parquet')}-{self.number:05d}.parquet"


def features_of(
    looked: Mapping[str, Looked], compute: Compute, work: Store, progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """Describe images by `public_features`, on as many workers as there is room for.

    Args:
        looked: by role; the same at every attempt.
        compute: size of a worker.
        work: where what is made outlives a kill.
        progress: told the row groups done.

    Returns:
        Features (N, D) by role, in the order of the ids; D is 0 where there are none.
    """
    made = work / "features"
    groups = [
        Group(role, shard, number)
        for role, one in looked.items()
        for shard in (one.images.shards() if len(one.ids) else ())
        for number in range(len(one.images.row_groups(shard)))
    ]
    there = set(made.files())
    missing = [group for group in groups if group.file not in there]
    if missing:
        run_on_workers(
            partial(_describe, made=made, device=compute.device), looked, missing, compute, progress, "parts"
        )
    return {
        role: _in_order(made.read_table(role), one.ids) if len(one.ids) else np.zeros((0, 0), np.float32)
        for role, one in looked.items()
    }


def _describe(looked: Mapping[str, Looked], group: Group, made: Store, device: str) -> None:
    """Write ids and features of what is looked at in a row group; only where there is anything are pictures read."""
    one, table = looked[group.role], FEATURES.empty_table()
    ids = one.images.read_row_group(group.shard, group.number, [one.column])[one.column]
    wanted = pc.is_in(ids, value_set=one.ids)
    if pc.any(wanted).as_py():
        images = pixels(one.images.read_row_group(group.shard, group.number, ["image"]).filter(wanted))
        columns = {"id": ids.filter(wanted), "features": list(public_features(images, device=device))}
        table = pa.table(columns, schema=FEATURES)
    made.write_table(group.file, table)


def _in_order(table: pa.Table, ids: pa.Array) -> NDArray[np.float32]:
    rows = table["features"].take(pc.index_in(ids, table["id"].combine_chunks()))
    flat: NDArray[np.float32] = rows.combine_chunks().flatten().to_numpy()
    return flat.reshape(len(ids), -1)
