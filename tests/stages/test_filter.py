"""Every row that is judged, failed samples and planted copies too, is judged by the one configured policy."""

import numpy as np
import pyarrow as pa
import pytest

from raydistill.core.columns import JUDGED, MATCHES, SAMPLES
from raydistill.core.config import FilterConfig
from raydistill.core.errors import InputError
from raydistill.core.section import Import
from raydistill.core.store import Store
from raydistill.matching.cross_fit import CrossFit
from raydistill.matching.policy import Policy, policy_at
from raydistill.stages.base import Context
from raydistill.stages.filter import Filter, FilterNodeConfig
from raydistill.stages.selftest import PLANTED

OWN = FilterConfig(policy=Import(factory="tests.matching.test_policy:Margin", options={"margin": 0.35}))


def rows(schema, count, **columns):
    blank = {pa.string(): "x", pa.float32(): 0.0, pa.int64(): 0, pa.binary(): b"x", pa.bool_(): True}
    filled = {f.name: columns.get(f.name, [None if f.nullable else blank.get(f.type, [])] * count) for f in schema}
    return pa.table(filled, schema=schema)


def matches(ids, patients, scores):
    people = {"query_patient_id": patients, "nearest_patient_id": patients}
    return rows(MATCHES, len(ids), query_id=ids, score=scores, **people)


@pytest.fixture
def context(tmp_path):
    store = Store.open(str(tmp_path))
    failures = [None, None, None, "out of memory"]
    store.write_table("samples/part-0.parquet", rows(SAMPLES, 4, sample_id=["a", "b", "c", "d"], failure=failures))
    tables = {
        "samples": matches(["a", "b", "c"], ["p", "p", "q"], [0.1, 0.2, 0.9]),
        "probe": matches(["r"], ["p"], [0.95]),
        "calibration": matches(["s", "t", "u"], ["k", "k", "l"], [0.1, 0.2, 0.3]),
    }
    for role, table in tables.items():
        store.write_table(f"matches/{role}/part-0.parquet", table)
    made = {"query_id": ["v", "w"], "source_role": ["train", "calibration"], "score": [0.9, 0.1]}
    planted = rows(PLANTED, 2, treatment=["blur"] * 2, patient_id=["p", "k"], structure_score=[0.0] * 2, **made)
    store.write_table("selftest/planted/part-0.parquet", planted)
    pair = {"among": "planted", "eyes": ["a", "b"], "jaccard": 0.5, "kappa": 0.4, "both": 1, "either": 2, "n": 4}
    store.write_json("selftest/agreement/agreement.json", [pair])
    thresholds = Policy(identity_threshold=0.5, near_copy_threshold=0.5, target_fpir=0.1, near_copy_fpir=0.1)
    store.write_json("policy/policy.json", thresholds.model_dump())
    inputs = {name: store / name for name in ("samples", "matches", "policy", "selftest")}
    return Context(inputs=inputs, out=store / "out", work=store / "work", seed=0)


def run(context, config):
    Filter("verdicts", FilterNodeConfig(filter=config, confidence=0.95), {}, 0).run(context)
    reasons = context.out.read_table("verdicts")["reason"].to_pylist()
    return reasons, context.out.read_json("metrics.json")


def test_the_thresholds_judge_by_default(context):
    reasons, metrics = run(context, FilterConfig())
    assert reasons == ["kept", "kept", "identity", "failed"]
    assert {name: m["value"] for name, m in metrics["filter"].items()} == {
        "kept": 2, "dropped.identity": 1, "dropped.failed": 1, "fpir": 1 / 3, "smallest_fpir": 1 / 3, "tpir": 1,
    }  # fmt: skip
    assert (metrics["selftest"]["sensitivity"]["value"], metrics["selftest"]["false_flag_rate"]["value"]) == (1, 0)


def test_somebodys_own_policy_judges_everything_in_their_place(context):
    reasons, metrics = run(context, OWN)
    assert reasons == ["kept", "margin", "identity", "failed"]
    assert metrics["filter"]["dropped.margin"]["value"] == 1
    assert metrics["filter"]["fpir"]["value"] == 1
    # The stranger is judged by the other one's scores: 0.3 less the margin.
    assert context.out.read_table("planted")["keep"].to_pylist() == [False, False]


def test_whom_a_threshold_was_set_on_is_judged_by_that_of_others():
    """In sample fewer are flagged than of fresh strangers who differ from one another; cross-fitted, as many."""
    rng, flags = np.random.default_rng(0), {"whole": [], "crossed": [], "fresh": []}
    for _ in range(200):
        strangers, fresh = (_strangers(rng) for _ in range(2))
        point = policy_at(strangers, 0.15, 0.15, 0.95)
        crossed = CrossFit(FilterConfig(), point, strangers, 0.95).judged(strangers, "query_patient_id")
        flags["crossed"].append(1 - crossed["keep"].to_numpy().mean())
        for name, table in (("whole", strangers), ("fresh", fresh)):
            flags[name].append(np.mean(table["score"].to_numpy() >= point.identity_threshold))
    whole, crossed, fresh = (np.mean(flags[name]) for name in ("whole", "crossed", "fresh"))
    assert whole < crossed - 0.005
    assert crossed == pytest.approx(fresh, abs=0.015)


def _strangers(rng, people=20, each=3):
    """Return the matches of people who differ from one another more than their images do."""
    scores = np.repeat(rng.normal(size=people), each) + 0.1 * rng.normal(size=people * each)
    names = [f"p{i}" for i in range(people) for _ in range(each)]
    table = matches([f"i{i}" for i in range(len(names))], names, scores)
    return table.set_column(MATCHES.get_field_index("query_patient_id"), "query_patient_id", pa.array(names))


def test_planted_pictures_and_matches_have_what_a_policy_may_read():
    assert set(JUDGED) <= set(PLANTED.names)
    assert set(JUDGED) <= set(MATCHES.names)


def test_a_match_that_is_lost_is_not_taken_for_a_failed_sample(context):
    lost = matches(["a", "c"], ["p", "q"], [0.1, 0.9])
    context.inputs["matches"].write_table("samples/part-0.parquet", lost)
    with pytest.raises(InputError, match="no match of sample b"):
        run(context, FilterConfig())
