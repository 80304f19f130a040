"""Where the filter kept enough at once, nothing more is asked for. (Where it did not: tests/golden.)"""

import pyarrow as pa
import pytest

from raydistill.core.columns import SAMPLES
from raydistill.core.config import FilterConfig
from raydistill.core.generation import MatchConfig, SampleConfig
from raydistill.core.store import Store
from raydistill.core.training import DiffusionConfig
from raydistill.data.prompts import FREQUENCIES
from raydistill.diffusion.components import prepare_initial
from raydistill.matching.policy import Policy
from raydistill.stages.base import Context
from raydistill.stages.images import read_made
from raydistill.stages.top_up import TopUp, TopUpConfig
from tests.stages.test_filter import matches, rows

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


def outcome(context, **asked):
    how = {"match": MatchConfig(), "filter": FilterConfig(), "samples_of": "samples", "matches_of": "matches"}
    config = TopUpConfig(samples=SampleConfig(num_samples=4, **asked), **how)
    return TopUp("more", config, {}, 0).run(context)


def test_where_enough_are_kept_nothing_is_made(context):
    said = outcome(context, target_kept=KEPT)
    assert said.counts == {"rows": 0, "kept_of_all": KEPT}
    assert (said.facts["rounds"], said.facts["notes"]) == (0, [])
    assert context.out.files() == []
    # And who reads both sets finds the first.
    inputs = {"images": context.inputs["samples"], "more_images": context.out / "samples"}
    assert read_made(inputs, ["sample_id"]).num_rows == len(IDS)
