"""Encoded rows as they are kept, in float16 as Parquet shards. Imports no model library: readers start in a moment.

A shard of rows has a twin of words: the token ids, or with a frozen text encoder the embeddings, of each distinct
prompt of that shard. A row names its prompt by its place there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.rows import Rows
from raydistill.core.seeds import generator
from raydistill.core.store import Store

SHARDS = 8
"""Shards that a few rows are chosen from: reading all of a large set for them would take longer than they are worth."""


@dataclass(frozen=True)
class LatentRows:
    """Reads encoded shards of a folder: `latents` (n, C, h, w) float16, `words` (n, L) int64 or (n, L, D) float16.

    With mirrored images also `flipped`, like `latents`. Equal by value, so that a reader's cache knows it again.
    """

    store: Store

    def __call__(self, name: str) -> Rows:
        """Return the rows of one shard."""
        rows, words = self.store.read_table(f"rows/{name}"), self.store.read_table(f"words/{name}")
        shapes = self.store.read_json("shapes.json")
        latents = [name for name in rows.column_names if name != "prompt"]
        columns = {name: _array(rows[name], shapes["latents"]) for name in latents}
        return columns | {"words": _array(words["words"], shapes["words"])[rows["prompt"].to_numpy()]}

    def some(self, shards: Sequence[tuple[str, int]], count: int, seed: int) -> Rows:
        """Return `count` rows, chosen at random from a few shards of known sizes, or from as many as it takes."""
        draw = generator(seed, "some")
        few: list[tuple[str, int]] = []
        for number in draw.permutation(len(shards)):
            if len(few) >= SHARDS and sum(rows for _, rows in few) >= count:
                break
            few.append(shards[number])
        shards = few
        places = np.sort(draw.permutation(sum(rows for _, rows in shards))[:count])
        chosen, start = [], 0
        for name, length in shards:
            inside = places[(places >= start) & (places < start + length)] - start
            if len(inside):
                chosen.append({column: values[inside] for column, values in self(name).items()})
            start += length
        return {column: np.concatenate([rows[column] for rows in chosen]) for column in chosen[0]}


def _array(column: pa.ChunkedArray, shape: Sequence[int]) -> NDArray[Any]:
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values).reshape(len(column), *shape)
