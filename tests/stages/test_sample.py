"""A sample depends on its model, its prompt and its seed; how the work is cut, and by whom it is done, is nothing to it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.core.columns import SAMPLES
from raydistill.core.errors import InputError
from raydistill.core.generation import RequestConfig, SampleConfig
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import DiffusionConfig
from raydistill.data.prompts import FREQUENCIES
from raydistill.diffusion.components import prepare_initial
from raydistill.stages.base import Context
from raydistill.stages.sample import ReleasedSample, Sample, rows_per_piece, rows_per_shard

MODEL = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    prepare_initial(MODEL, resolution=16, seed=0, folder=folder / "model")
    rows = [{"prompt": p, "count": n} for p, n in (("chest x-ray", 3), ("chest x-ray, effusion", 5))]
    Store.open(str(folder)).write_table("prompts/part-0.parquet", pa.Table.from_pylist(rows, schema=FREQUENCIES))
    return {name: Store.open(str(folder / name)) for name in ("model", "prompts")}


def sampled(asked, folder, **more):
    store = Store.open(str(folder))
    config = SampleConfig(**{"num_samples": 50, "num_inference_steps": 2, "batch_size": 4, **more})
    stage = Sample("samples", config, {}, seed=5)
    context = Context(inputs=asked, out=store / "out", work=store / "work", seed=stage.seed)
    outcome = stage.run(context)
    assert outcome.counts == {"rows": 50, "failed": 0}
    assert store.files("work") == []
    return store / "out" / "samples"


@pytest.mark.ray
def test_cuts_and_workers_change_nothing(local_ray, asked, tmp_path):
    one = Compute(num_workers=1, num_cpus=0.5)
    two = Compute(num_workers=(1, 2), num_cpus=0.5)
    first = sampled(asked, tmp_path / "a", rows_per_piece=8, rows_per_shard=24, compute=one)
    other = sampled(asked, tmp_path / "b", rows_per_piece=12, compute=two)
    assert first.read_table().equals(other.read_table())
    assert first.read_table().schema == SAMPLES
    assert [first.row_groups(shard) for shard in first.shards()] == [[8, 8], [8, 8], [8, 8, 2]]
    # A reader that looks for an id can pass over the others.
    about = pq.ParquetFile(first._at("part-00001.parquet")).metadata.row_group(1).column(0).statistics
    assert (about.min, about.max) == ("samples-00000024", "samples-00000031")


@pytest.mark.ray
def test_samples_that_take_turns_are_each_made_as_if_all_were_made_in_that_way(local_ray, asked, tmp_path):
    ways = ((1.0, 2), (4.0, 3))
    turns = sampled(asked, tmp_path / "turns", ways=ways).read_table()
    assert turns["guidance_scale"].to_pylist() == [1.0, 4.0] * 25
    assert turns["num_inference_steps"].to_pylist() == [2, 3] * 25
    for number, (guidance, steps) in enumerate(ways):
        alone = {"guidance_scale": guidance, "num_inference_steps": steps}
        made = sampled(asked, tmp_path / f"{number}", **alone).read_table()
        assert made["image"].to_pylist()[number::2] == turns["image"].to_pylist()[number::2]
        assert made["guidance_scale"].null_count == 50


def test_released_samples_come_from_seeds_that_only_the_run_folder_knows(tmp_path):
    store = Store.open(str(tmp_path))
    known, secret = (Context({}, store, store, seed=5, private_seed=seed) for seed in (0, 77))
    assert Sample("samples", SampleConfig(), {}, seed=5).root(secret) == 5
    assert ReleasedSample("samples", SampleConfig(), {}, seed=5).root(secret) == 77
    assert ReleasedSample("samples", SampleConfig(), {}, seed=5).root(known) == 0


def test_a_table_of_prompts_is_in_the_key_by_its_content(tmp_path):
    def key(name, content):
        (tmp_path / name).write_text(content)
        config = SampleConfig(requests=RequestConfig(table=str(tmp_path / name)))
        return Sample("samples", config, {}, seed=5).key_config()

    assert key("a.csv", "prompt\nx\n") == key("b.csv", "prompt\nx\n") != key("c.csv", "prompt\ny\n")


def test_a_bad_table_of_prompts_is_refused_before_anything_starts(tmp_path):
    (tmp_path / "a.csv").write_text("text\nx\n")
    config = SampleConfig(requests=RequestConfig(table=str(tmp_path / "a.csv")))
    with pytest.raises(InputError, match="no column `prompt`"):
        Sample("samples", config, {}, seed=5).check(None)


def test_shards_are_few_and_of_a_good_size_by_default():
    def shard(total, side, **more):
        return rows_per_shard(SampleConfig(num_samples=total, **more), total, side)

    assert shard(500, 64) == 128
    assert shard(2_000_000, 64) == 31_250
    assert 1000 < shard(2_000_000, 512) < 2000
    assert shard(2_000_000, 512, rows_per_shard=77) == 77


def test_a_kill_of_all_workers_costs_two_percent_of_many_rows():
    def piece(total, workers, **more):
        return rows_per_piece(SampleConfig(compute=Compute(num_workers=workers), **more), total)

    assert piece(500, 64) == 128
    assert piece(100_000, 2) == 128
    assert [piece(100_000, 8), 2 * 8 * piece(100_000, 8) <= 2000] == [96, True]
    assert piece(100_000, 1000) == 32


def test_a_piece_is_made_of_whole_batches():
    with pytest.raises(ValueError, match="isn't a multiple of batch_size 48"):
        SampleConfig(batch_size=48)
