"""Where the filter kept enough at once, nothing more is asked for; else what is missing. (At length: tests/golden.)"""

import numpy as np
import pyarrow as pa
import pytest

from raydistill.core.columns import SAMPLES
from raydistill.core.config import FilterConfig
from raydistill.core.generation import MatchConfig, SampleConfig
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import DiffusionConfig
from raydistill.data.prompts import FREQUENCIES
from raydistill.diffusion.components import prepare_initial
from raydistill.matching.policy import Policy
from raydistill.stages.base import Context
from raydistill.stages.images import read_made
from raydistill.stages.top_up import TopUp, TopUpConfig
from tests.stages.test_filter import matches, rows
from tests.stages.test_match import OWN_EYE, make_galleries

IDS = ["a", "b", "c", "d"]
KEPT = 3


@pytest.fixture
def context(tmp_path):
    store = Store.open(str(tmp_path))
    model = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32)
    prepare_initial(model, resolution=16, seed=0, folder=tmp_path / "model")
    asked = pa.Table.from_pylist([{"prompt": "chest x-ray", "count": 5}], schema=FREQUENCIES)
    store.write_table("prompts/part-0.parquet", asked)
    store.write_table("sharing/part-0.parquet", pa.table({"prompt": ["chest x-ray"], "patients": [5]}))
    store.write_table("samples/part-0.parquet", rows(SAMPLES, 4, sample_id=IDS))
    found = matches(IDS, ["p"] * 4, [0.1, 0.2, 0.3, 0.9]).set_column(0, "query_id", pa.array(IDS))
    found = found.set_column(found.column_names.index("structure_score"), "structure_score", pa.array([0.0] * 4, "f4"))
    store.write_table("matches/samples/part-0.parquet", found)
    thresholds = Policy(identity_threshold=0.5, near_copy_threshold=0.5, target_fpir=0.1, near_copy_fpir=0.1)
    store.write_json("policy/policy.json", thresholds.model_dump())
    inputs = {name: store / name for name in ("model", "prompts", "sharing", "samples", "matches", "policy")}
    return Context(inputs=inputs, out=store / "out", work=store / "work", seed=0)


ONE = Compute(num_workers=1, num_cpus=0.5)


def outcome(context, **asked):
    how = {"filter": FilterConfig(), "samples_of": "samples", "matches_of": "matches"}
    samples = SampleConfig(**{"num_samples": 4, "num_inference_steps": 2, "compute": ONE} | asked)
    config = TopUpConfig(samples=samples, match=MatchConfig(compute=ONE), **how)
    return TopUp("more", config, {}, 0).run(context)


def test_where_enough_are_kept_nothing_is_made(context):
    said = outcome(context, target_kept=KEPT)
    assert said.counts == {"rows": 0, "kept_of_all": KEPT}
    assert (said.facts["rounds"], said.facts["notes"]) == (0, [])
    assert context.out.files() == []
    # And who reads both sets finds the first.
    inputs = {"images": context.inputs["samples"], "more_images": context.out / "samples"}
    assert read_made(inputs, ["sample_id"]).num_rows == len(IDS)


@pytest.mark.ray
def test_of_several_ways_only_the_chosen_one_counts_and_is_asked_for(local_ray, context, tmp_path):
    """Of six samples in each of two ways three of the chosen one are kept: for two more, four or five are asked."""
    store, count, above = Store.open(str(tmp_path)), 12, 2.0
    ids = [f"samples-{number:08d}" for number in range(count)]
    made = {"guidance_scale": [1.0, 4.0] * 6, "num_inference_steps": [2] * count}
    store.write_table("samples/part-0.parquet", rows(SAMPLES, count, sample_id=ids, **made))
    scores = {"score": [0.0] * 6 + [above] * 6, "structure_score": [0.0] * count}
    found = rows(matches([], [], []).schema, count, query_id=ids, nearest_patient_id=["p"] * count, **scores)
    store.write_table("matches/samples/part-0.parquet", found)
    chosen = {"selection": {"guidance_scale": 4.0}, "target_fpir": 0.1, "near_copy_fpir": 0.1}
    thresholds = Policy(identity_threshold=above, near_copy_threshold=above, **chosen)
    store.write_json("policy/policy.json", thresholds.model_dump())
    images = np.random.default_rng(0).integers(1, 255, (4, 16, 16), np.uint8)
    make_galleries(store, ["filter"], {"train": images}, OWN_EYE)
    context.inputs |= {"gallery": store / "of_train", "eye_filter": store / "eye"}
    said = outcome(context, num_samples=count, ways=((1.0, 2), (4.0, 2)), target_kept=5)
    assert said.counts == {"rows": 5, "kept_of_all": 8}
    more = (context.out / "samples").read_table()
    assert more["sample_id"].to_pylist() == [f"samples-{number:08d}" for number in range(count, count + 5)]
    assert set(more["guidance_scale"].to_pylist()) == {4.0}
