"""Reading the images of a view, with the verdicts that keep some of them."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.core.store import Store
from raydistill.data.images import decode_batch


def read_kept(inputs: Mapping[str, Store], columns: list[str]) -> pa.Table:
    """Read the rows of the input `images`; of samples, those that were made and that the input `verdicts` keeps.

    Args:
        inputs: `images` (records or samples) and, optionally, `verdicts`.
        columns: columns to return, `image` usually among them.

    Returns:
        A table with these columns in the order of the shards.
    """
    names = inputs["images"].read_table(inputs["images"].shards()[0]).column_names
    is_samples = "sample_id" in names
    table = inputs["images"].read_table(columns=[*columns, *(["sample_id", "failure"] if is_samples else [])])
    if is_samples:
        table = table.filter(pc.is_null(table["failure"]))
    if "verdicts" in inputs:
        verdicts = inputs["verdicts"].read_table(columns=["sample_id", "keep"])
        kept = verdicts.filter(verdicts["keep"])["sample_id"]
        table = table.filter(pc.is_in(table["sample_id"], value_set=kept.combine_chunks()))
    return table.select(columns)


def pixels(table: pa.Table) -> NDArray[np.uint8]:
    """Decode a table's `image` column into (N, R, R) uint8."""
    return decode_batch(table["image"].to_pylist())
