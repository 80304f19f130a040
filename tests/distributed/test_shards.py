"""Shards and their pieces, without Ray."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.store import Store
from raydistill.distributed.shards import Shard, Shelf, cut


def table(*numbers):
    return pa.table({"number": list(numbers)})


@given(st.integers(1, 3000), st.integers(1, 900), st.integers(1, 400), st.integers(0, 9))
def test_every_row_is_in_one_piece_and_shards_are_even(rows, per_shard, per_piece, first):
    shards = cut(rows, per_shard, per_piece, first)
    numbers = [n for shard in shards for piece in shard.pieces for n in range(piece.first, piece.first + piece.rows)]
    assert numbers == list(range(first, first + rows))
    assert len({shard.name for shard in shards}) == len(shards)
    assert all(0 < piece.rows <= per_piece for shard in shards for piece in shard.pieces)
    pieces = [len(shard.rows) for shard in shards]
    assert 1 <= min(pieces) <= max(pieces) <= min(pieces) + 1
    assert all(sum(shard.rows) <= per_shard for shard in shards)


@pytest.fixture
def shelf(tmp_path):
    store = Store.open(str(tmp_path))
    return Shelf(store / "out", store / "work")


def test_a_shard_of_one_piece_is_written_at_once(shelf):
    shard = Shard("a.parquet", (2,))
    assert shelf.missing([shard]) == {shard: shard.pieces}
    shelf.put(shard, shard.pieces[0], [table(1, 2)])
    assert shelf.missing([shard]) == {}
    assert shelf.out.read_table("a.parquet")["number"].to_pylist() == [1, 2]


def test_pieces_become_row_groups_and_go(shelf):
    shard = Shard("a.parquet", (2, 1), others=("x/a.parquet", "y/a.parquet"))
    one, other = shard.pieces
    shelf.put(shard, other, [table(3), table(30)])
    assert shelf.missing([shard]) == {shard: [one]}
    assert shelf.out.files() == []
    shelf.put(shard, one, [table(1, 2), table(10, 20)])
    assert shelf.missing([shard]) == {shard: []}
    shelf.join(shard)
    assert shelf.missing([shard]) == {}
    assert shelf.work.files() == []
    assert shelf.out.row_groups("x/a.parquet") == [2, 1]
    assert shelf.out.read_row_group("y/a.parquet", 1)["number"].to_pylist() == [30]


def test_a_piece_half_of_whose_files_are_there_is_missing(shelf):
    shard = Shard("a.parquet", (1, 1), others=("x/a.parquet", "y/a.parquet"))
    shelf.put(shard, shard.pieces[0], [table(1), table(2)])
    shelf.work.delete("y/a.parquet/00000.parquet")
    assert shelf.missing([shard])[shard] == shard.pieces


def test_a_join_that_was_cut_short_is_done_again(shelf):
    shard = Shard("a.parquet", (1, 1), others=("x/a.parquet", "y/a.parquet"))
    for number, piece in enumerate(shard.pieces):
        shelf.put(shard, piece, [table(number), table(number)])
    shelf.join(shard)
    for number, piece in enumerate(shard.pieces):
        shelf.put(shard, piece, [table(number), table(number)])
    shelf.out.delete("y/a.parquet")
    assert shelf.missing([shard]) == {shard: []}
    shelf.join(shard)
    assert shelf.out.read_table("y/a.parquet")["number"].to_pylist() == [0, 1]


def test_a_file_without_rows_has_one_empty_piece(tmp_path):
    store = Store.open(str(tmp_path))
    store.write_table("a.parquet", table(1).slice(0, 0))
    assert store.row_groups("a.parquet") in ([], [0])
    assert store.read_row_group("a.parquet", 0).num_rows == 0


def test_tables_of_other_kinds_are_refused(tmp_path):
    store = Store.open(str(tmp_path))
    with pytest.raises(ValueError, match="schema"):
        store.write_tables("a.parquet", [table(1), pa.table({"other": [1]})])
    assert store.files() == []
