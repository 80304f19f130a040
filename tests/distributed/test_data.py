"""Sharded map jobs on real Ray Data."""

import os
import signal

import numpy as np
import pyarrow as pa
import pytest

from raydistill.core.errors import RaydistillError
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.distributed import joining
from raydistill.distributed.data import map_shards
from raydistill.distributed.shards import Shelf, cut
from raydistill.distributed.shared import Shared, Spread
from tests.distributed.toys import Faulty, Numbers, Part, Slow

pytestmark = pytest.mark.ray

COMPUTE = Compute(num_workers=2, num_cpus=0.5)


def make(folder, shards, *, told=lambda *_: None, compute=COMPUTE, work=Numbers, **arguments):
    store = Store.open(str(folder))
    places = {"out": store / "out", "work": store / "work"}
    map_shards(work, {"log": str(folder / "log"), **arguments}, shards, **places, compute=compute, progress=told)
    return store / "out"


def computed(folder):
    return sorted(tuple(map(int, line.split())) for line in (folder / "log").read_text().splitlines())


def test_shards_are_joined_from_pieces_in_their_order(local_ray, tmp_path):
    told, shards = [], cut(105, 50, 10)
    out = make(tmp_path, shards, told=lambda done, total, unit: told.append((done, total)))
    assert out.files() == [shard.name for shard in shards]
    assert out.read_table()["number"].to_pylist() == list(range(105))
    assert out.row_groups("part-00000.parquet") == [10] * 3
    assert (told[0], told[-1]) == ((0, 105), (105, 105))
    assert Store.open(str(tmp_path)).files("work") == []


def test_only_missing_pieces_are_computed(local_ray, tmp_path):
    shards = cut(60, 30, 10)
    with pytest.raises(RaydistillError):
        make(tmp_path, shards, bad=50, compute=Compute(num_workers=1, num_cpus=0.5))
    first = computed(tmp_path)
    assert (0, 10) in first
    out = make(tmp_path, shards)
    again = computed(tmp_path)
    assert len(again) - len(first) <= 6 - (len(first) - 1)
    assert out.read_table()["number"].to_pylist() == list(range(60))
    make(tmp_path, shards)
    assert computed(tmp_path) == again


def test_a_piece_that_fails_is_named_with_its_reason(local_ray, tmp_path):
    with pytest.raises(RaydistillError, match=r"part-00001\.parquet, rows 20 to 29: ValueError: 25 is bad$"):
        make(tmp_path, cut(40, 20, 10), bad=25)


@pytest.mark.parametrize(("work", "why"), [(Numbers, "short of memory"), (Faulty, "AcceleratorError: CUDA error")])
def test_a_piece_that_kills_its_workers_is_named(local_ray, tmp_path, work, why):
    with pytest.raises(RaydistillError, match=rf"rows 20 to 29: RaydistillError: 3 workers have died over it: .*{why}"):
        make(tmp_path, cut(40, 20, 10), deadly=25, work=work)


@pytest.mark.parametrize("work", [Numbers, Faulty])
def test_a_worker_that_dies_once_costs_nothing_but_time(local_ray, tmp_path, work):
    out = make(tmp_path, cut(40, 20, 10), deadly=25, once=True, work=work)
    assert out.read_table()["number"].to_pylist() == list(range(40))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_rows_do_not_depend_on_the_workers(local_ray, tmp_path, workers):
    out = make(tmp_path, cut(50, 20, 7), compute=Compute(num_workers=workers, num_cpus=0.5))
    assert out.read_table()["number"].to_pylist() == list(range(50))


def test_a_pool_grows_while_there_is_work(local_ray, tmp_path):
    out = make(tmp_path, cut(600, 300, 10), compute=Compute(num_workers=(1, 2), num_cpus=0.5), work=Slow)
    processes = [first for first, rows in computed(tmp_path) if not rows]
    assert len(processes) == 60
    assert len(set(processes)) == 2
    assert out.read_table()["number"].to_pylist() == list(range(600))


def test_a_join_that_was_asked_of_a_node_that_has_gone_is_asked_for_again(local_ray, tmp_path, monkeypatch):
    """The first is asked of a node that there isn't, and waits for ever."""
    import ray
    from ray.util.scheduling_strategies import In, NodeLabelSchedulingStrategy

    store = Store.open(str(tmp_path))
    shelf, (shard,) = Shelf(store / "out", store / "work"), cut(20, 20, 10)
    for piece in shard.pieces:
        shelf.put(shard, piece, [pa.table({"number": range(piece.first, piece.first + piece.rows)})])
    seen = iter([{"gone"}])
    monkeypatch.setattr(joining, "_living", lambda: next(seen, set()))
    monkeypatch.setattr(joining, "LOOK_S", 0.1)
    one = joining.Joining(shelf, {shard.name: (shard, 2)}, Compute())
    one.where = NodeLabelSchedulingStrategy(hard={"name": In("nobody")})
    one.count(shard.name)
    one.count(shard.name)
    (stuck,) = one.running
    one.finish()
    ray.cancel(stuck)
    assert (store / "out").read_table()["number"].to_pylist() == list(range(20))
    assert not one.running


def test_arrays_are_shared_without_a_copy(local_ray):
    shared = Shared.put({"a": np.arange(1_000_000)})
    one, other = shared.get()["a"], shared.get()["a"]
    assert one.ctypes.data == other.ctypes.data
    assert not one.flags.writeable


def test_parts_on_actors_answer_together_and_come_back_when_lost(local_ray):
    spread = Spread.start(Part, [{"first": 0}, {"first": 10}], Compute(num_workers=1, num_cpus=0.5))
    assert spread.ask("add", 5) == [5, 15]
    os.kill(spread.ask("pid")[1], signal.SIGKILL)
    assert spread.ask("add", 6) == [6, 16]
