"""What is read of images, and how much of it at once."""

import pyarrow as pa
import pytest

from raydistill.core.columns import RECORDS, SAMPLES, VERDICTS
from raydistill.core.store import Store
from raydistill.stages.images import at_most, read_kept, read_people, read_sampled
from tests.stages.test_filter import rows


@pytest.fixture
def inputs(tmp_path):
    store = Store.open(str(tmp_path))
    for shard in range(4):
        ids = [f"{shard}{row}" for row in range(10)]
        failures = [None] * 9 + ["blank"]
        store.write_table(f"samples/part-{shard}.parquet", rows(SAMPLES, 10, sample_id=ids, failure=failures))
        keep = [row != 4 for row in range(10)]
        store.write_table(f"verdicts/part-{shard}.parquet", rows(VERDICTS, 10, sample_id=ids, keep=keep))
    return {"images": store / "samples", "verdicts": store / "verdicts"}


def rows_of(inputs, most, seed=0):
    return read_sampled(inputs, ["sample_id"], most, seed)["sample_id"].to_pylist()


def test_all_that_is_kept_is_read_where_it_is_not_too_much(inputs):
    assert rows_of(inputs, 32) == rows_of(inputs, 10**9) == read_kept(inputs, ["sample_id"])["sample_id"].to_pylist()
    assert len(rows_of(inputs, 32)) == 4 * 8


def test_a_random_part_of_what_is_kept_is_read_where_there_is_more(inputs):
    some = rows_of(inputs, 7)
    assert len(set(some)) == 7
    assert set(some) < set(rows_of(inputs, 32))
    assert some == sorted(some) == rows_of(inputs, 7) != rows_of(inputs, 7, seed=1)
    drawn = [name for seed in range(200) for name in rows_of(inputs, 7, seed)]
    assert all(15 < drawn.count(name) < 80 for name in rows_of(inputs, 32))


def test_where_nothing_is_kept_nothing_is_read(inputs):
    table = rows(VERDICTS, 1, sample_id=["x"], keep=[False])
    for shard in range(4):
        inputs["verdicts"].write_table(f"part-{shard}.parquet", table)
    assert rows_of(inputs, 5) == []


def test_of_each_patient_one_image_before_anybodys_second(tmp_path):
    store = Store.open(str(tmp_path))
    people = [["a"] * 6, ["a", "b", "b", "c"], ["d"]]
    for shard, own in enumerate(people):
        ids = [f"{shard}{row}" for row in range(len(own))]
        table = rows(RECORDS, len(own), image_id=ids, patient_id=own, study_index=[0] * len(own))
        store.write_tables(f"part-{shard}.parquet", [table.slice(0, 2), table.slice(2)])
    for seed in range(20):
        four = read_people(store, ["image_id", "patient_id"], 4, seed)
        assert sorted(four["patient_id"].to_pylist()) == ["a", "b", "c", "d"]
        assert four["image_id"].to_pylist() == sorted(four["image_id"].to_pylist())
        six = read_people(store, ["patient_id"], 6, seed)["patient_id"].to_pylist()
        assert sorted(six) == ["a", "a", "b", "b", "c", "d"]
    every = read_people(store, ["image_id"], 99, 0)["image_id"].to_pylist()
    assert every == sorted(f"{shard}{row}" for shard, own in enumerate(people) for row in range(len(own)))
    assert len({tuple(read_people(store, ["image_id"], 4, seed)["image_id"].to_pylist()) for seed in range(20)}) > 5


def test_no_more_than_so_many_of_a_patient_are_drawn_and_all_alike():
    table = pa.table({"patient_id": ["a"] * 6 + ["b"] * 2 + ["c"], "row": range(9)})
    drawn = [at_most(table, 2, seed)["row"].to_pylist() for seed in range(300)]
    assert all(len(rows) == 5 and rows == sorted(rows) and rows[2:] == [6, 7, 8] for rows in drawn)
    counts = [sum(row in rows for rows in drawn) for row in range(6)]
    assert max(abs(count - 100) for count in counts) < 30
