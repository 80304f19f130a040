"""Sharded map jobs on real Ray Data."""

import pytest

from raydistill.core.errors import RaydistillError
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.distributed.data import map_shards, shard_names
from tests.distributed.toys import WriteShard

pytestmark = pytest.mark.ray


def test_only_missing_shards_are_made(local_ray, tmp_path):
    out, names, told = Store.open(str(tmp_path)), shard_names(100, 10), []
    out.write_bytes(names[3], b"from before")
    map_shards(
        WriteShard,
        {"out": out},
        names,
        done_in=out,
        compute=Compute(num_workers=2, num_cpus=0.5),
        progress=lambda done, total, unit: told.append((done, total)),
    )
    assert out.files() == names
    assert out.read_bytes(names[3]) == b"from before"
    assert told[0] == (1, 10)
    assert told[-1] == (10, 10)


def test_a_shard_that_fails_leaves_the_others_and_is_named(local_ray, tmp_path):
    out, names = Store.open(str(tmp_path)), shard_names(30, 10)
    with pytest.raises(RaydistillError, match=r"can't be made: ValueError: can't make part-00002\.parquet$"):
        map_shards(
            WriteShard,
            {"out": out, "bad": names[2]},
            names,
            done_in=out,
            compute=Compute(num_workers=1, num_cpus=0.5),
            progress=lambda *_: None,
        )
    assert names[2] not in out.files()
