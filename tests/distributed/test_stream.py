"""The order of rows, and how batches are cut. No Ray: `test_split` sends it through Ray Train."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.distributed.stream import Parts, Stream
from tests.distributed.toys import read_rows


def stream(shards=7, batch_size=9, seed=3, window_rows=25):
    return Stream(tuple((str(name), 10) for name in range(shards)), read_rows, batch_size, seed, window_rows)


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
def test_parts_are_a_batch_cut_without_rest(rows, workers, accumulation):
    parts = Parts(rows, workers, accumulation)
    cut = [parts.part(number) for number in range(parts.count)]
    assert [place for part in cut for place in range(part.start, part.stop)] == list(range(rows))
    sizes = [part.stop - part.start for part in cut]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == parts.width
    of_all = [part for rank in range(workers) for part in parts.of(rank)]
    assert sorted(map(str, of_all)) == sorted(map(str, cut))


@given(st.integers(4, 40), st.integers(1, 2), st.integers(1, 2))
def test_weighted_means_of_parts_are_the_mean(rows, workers, accumulation):
    values = np.random.default_rng(rows).normal(size=rows)
    parts = Parts(rows, workers, accumulation)
    means = [values[part].mean() * parts.weight(part) for part in map(parts.part, range(parts.count))]
    assert np.mean(means) == pytest.approx(values.mean())


def test_an_epoch_has_every_row_once_in_another_order_than_the_next():
    rows = stream()
    first, second = (rows.rows(epoch * 70, (epoch + 1) * 70)["i"] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(70))
    assert list(first) != list(second)
    assert list(first) != sorted(first)


@given(st.integers(0, 250), st.integers(1, 120))
def test_any_stretch_is_a_stretch_of_the_whole(first, length):
    whole = stream().rows(0, 400)
    some = stream().rows(first, first + length)
    for name in ("i", "x"):
        np.testing.assert_array_equal(some[name], whole[name][first : first + length])


def test_the_order_does_not_depend_on_the_batch_and_depends_on_the_seed():
    np.testing.assert_array_equal(stream(batch_size=4).rows(0, 90)["i"], stream(batch_size=32).rows(0, 90)["i"])
    assert list(stream(seed=4).rows(0, 70)["i"]) != list(stream().rows(0, 70)["i"])


@pytest.mark.parametrize(("workers", "accumulation"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_records_hold_each_workers_parts(workers, accumulation):
    rows, parts = stream(), Parts(9, workers, accumulation)
    records = list(rows.records({"first": [5], "last": [8]}, parts))
    assert [int(record["rank"][0]) for record in records] == list(range(workers))
    for rank, record in enumerate(records):
        for at, step in enumerate(range(5, 8)):
            for micro, part in enumerate(parts.of(rank)):
                got = record["i"][0, at, micro]
                expected = rows.rows(step * 9 + part.start, step * 9 + part.stop)["i"]
                assert len(got) == parts.width
                np.testing.assert_array_equal(got[: len(expected)], expected)
