"""Reading the images of a view, with the verdicts that keep some of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.core.rows import turns
from raydistill.core.store import Store
from raydistill.data.images import decode_batch


def read_kept(inputs: Mapping[str, Store], columns: list[str], shard: str = "") -> pa.Table:
    """Read the rows of the input `images`; of samples, those that were made and that the input `verdicts` keeps.

    Args:
        inputs: `images` (records or samples) and, optionally, `more_images` (samples) and `verdicts`.
        columns: columns to return, `image` usually among them.
        shard: read only this one.

    Returns:
        A table with these columns in the order of the shards.
    """
    synthetic = are_samples(inputs["images"])
    needed = dict.fromkeys([*columns, *(["sample_id", "failure"] if synthetic else [])])
    table = read_made(inputs, list(needed), shard)
    if synthetic:
        table = table.filter(pc.is_null(table["failure"]))
    return only_kept(inputs, table, "sample_id", shard).select(columns)


def read_sampled(inputs: Mapping[str, Store], columns: list[str], most: int, seed: int) -> pa.Table:
    """Read what `read_kept` would, but no more than so many rows, chosen at random.

    Args:
        inputs: as there.
        columns: as there.
        most: rows; where there are no more, all of them are read.
        seed: of the choice.

    Returns:
        A table in the order of the shards. No more than one shard is held beside it.
    """
    column = "sample_id" if are_samples(inputs["images"]) else "image_id"
    sizes = {name: read_kept(inputs, [column], name).num_rows for name in image_shards(inputs)}
    chosen = np.sort(np.random.default_rng(seed).permutation(sum(sizes.values()))[:most])
    return _rows(inputs, columns, sizes, chosen)


def rows_of(store: Store, ids: pa.ChunkedArray, columns: Sequence[str], key: str) -> pa.Table:
    """Read the rows of some samples, in the order of their ids; one shard at a time.

    Args:
        store: a table in shards.
        ids: of the samples.
        columns: to read, the key among them.
        key: the column that names a sample.
    """
    wanted, parts = ids.combine_chunks(), []
    for shard in store.shards():
        table = store.read_table(shard, columns=list(columns))
        parts.append(table.filter(pc.is_in(table[key], value_set=wanted)))
    return pa.concat_tables(parts).sort_by(key)


def read_people(records: Store, columns: list[str], most: int, seed: int) -> pa.Table:
    """Read records of as many patients as can be: of each one image before anybody's second.

    Args:
        records: columns.RECORDS.
        columns: to read.
        most: rows; where there are no more, all of them are read.
        seed: of the choice.
    """
    sizes = {name: sum(records.row_groups(name)) for name in records.shards()}
    people = records.read_table(columns=["patient_id"])["patient_id"].to_numpy()
    order = np.random.default_rng(seed).permutation(len(people))
    chosen = order[np.argsort(turns(people[order]), kind="stable")][:most]
    return _rows({"images": records}, columns, sizes, np.sort(chosen))


def at_most(table: pa.Table, most: int, seed: int, whose: str = "patient_id") -> pa.Table:
    """Return no more than so many rows of each patient, drawn at random, in their order.

    Args:
        table: of images.
        most: rows of a patient.
        seed: of the draw.
        whose: the column of patients.
    """
    order = np.random.default_rng(seed).permutation(table.num_rows)
    people = table[whose].to_numpy()[order]
    return table.take(np.sort(order[turns(people) < most]))


def _rows(
    inputs: Mapping[str, Store], columns: list[str], sizes: Mapping[str, int], chosen: NDArray[np.int64]
) -> pa.Table:
    """Read some rows of all shards together, by number."""
    parts: list[pa.Table] = []
    start = 0
    for name, size in sizes.items():
        mine = chosen[(chosen >= start) & (chosen < start + size)] - start
        start += size
        if len(mine) or not parts:
            parts.append(read_kept(inputs, columns, name).take(mine))
    return pa.concat_tables(parts)


def read_made(inputs: Mapping[str, Store], columns: list[str], shard: str = "") -> pa.Table:
    """Read the rows of the inputs `images` and `more_images`, of one shard if it is named."""
    stores = image_shards(inputs)
    return pa.concat_tables(stores[name].read_table(name, columns=columns) for name in ([shard] if shard else stores))


def image_shards(inputs: Mapping[str, Store]) -> dict[str, Store]:
    """Return where each shard of the inputs `images` and `more_images` is; no two have the same name."""
    stores = [inputs[name] for name in ("images", "more_images") if name in inputs]
    return {shard: store for store in stores for shard in store.shards()}


def are_samples(images: Store) -> bool:
    """Whether a folder holds samples; the alternative is records."""
    return "sample_id" in images.column_names(images.shards()[0])


def only_kept(inputs: Mapping[str, Store], table: pa.Table, column: str, shard: str = "") -> pa.Table:
    """Leave out the rows whose sample the input `verdicts` drops; without that input nothing is left out.

    Args:
        inputs: `verdicts`, optionally.
        table: any rows about samples.
        column: which of its columns holds the sample's id.
        shard: of the samples, where all rows are of one; verdicts have shards like theirs.
    """
    if "verdicts" not in inputs:
        return table
    return keep_rows(inputs["verdicts"].read_table(shard, columns=["sample_id", "keep"]), table, column)


def keep_rows(verdicts: pa.Table, table: pa.Table, column: str) -> pa.Table:
    """Leave out the rows whose sample has no verdict that keeps it.

    Args:
        verdicts: columns.VERDICTS.
        table: any rows about samples.
        column: which of its columns holds the sample's id.
    """
    kept = verdicts.filter(verdicts["keep"])["sample_id"]
    return table.filter(pc.is_in(table[column], value_set=kept.combine_chunks()))


def pixels(table: pa.Table) -> NDArray[np.uint8]:
    """Decode a table's `image` column into (N, R, R) uint8."""
    return decode_batch(table["image"].to_pylist())
