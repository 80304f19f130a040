"""Where nodes have roles, whatever reads or writes for a stage does so where that stage's workers may, or beside the driver."""

from types import SimpleNamespace

import pytest
import ray
import ray.data

from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.distributed import joining
from raydistill.distributed.shards import Shard, Shelf
from raydistill.distributed.split import POSITION, Split
from raydistill.distributed.stream import Stream
from tests.distributed.toys import read_rows

ROLE = {"role": "training"}


@pytest.mark.parametrize(("labels", "where"), [(ROLE, "beside the driver"), ({}, "SPREAD")])
def test_shards_are_joined_where_their_pieces_may_be_read(monkeypatch, tmp_path, labels, where):
    asked = []

    def remote(**options):
        asked.append(options)
        return lambda function: SimpleNamespace(remote=lambda *_: None)

    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "nodes", list)
    monkeypatch.setattr(joining, "here", lambda: "beside the driver")
    store = Store.open(str(tmp_path))
    joining.Joining(Shelf(store, store), {"a": (Shard("a", (1, 1)), 0)}, Compute(label_selector=labels))
    assert asked == [{"num_cpus": 0, "scheduling_strategy": where}]


@pytest.mark.parametrize("labels", [ROLE, {}])
def test_a_training_s_rows_are_read_on_nodes_that_it_may_run_on(monkeypatch, tmp_path, labels):
    work, asked = Store.open(str(tmp_path)), []
    work.write_json(POSITION, {"step": 0})
    context = SimpleNamespace(execution_options=SimpleNamespace())
    read = SimpleNamespace(context=context, streaming_split=lambda *_, **__: ["rows"])

    def from_items(*_, **__):
        return SimpleNamespace(map_batches=lambda *_, **options: asked.append(options) or read)

    monkeypatch.setattr(ray.data, "from_items", from_items)
    stream = Stream((("a", 10),), read_rows, 5, seed=3, window_rows=10)
    Split(stream, 4, lambda workers: 1, work, labels).configure({}, 1)
    assert [options.get("label_selector", {}) for options in asked] == [labels]
