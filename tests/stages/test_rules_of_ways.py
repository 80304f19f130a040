"""Simple rules choose among the samples that were made in the way the search chose."""

import numpy as np
import pytest

from raydistill.core.columns import MATCHES, SAMPLES, VERDICTS
from raydistill.core.config import EvaluateConfig
from raydistill.core.store import Store
from raydistill.matching.policy import Policy
from raydistill.stages.base import Context
from raydistill.stages.rules import Rules, RulesNodeConfig
from tests.stages.test_filter import rows
from tests.stages.test_match import records

COUNT = 8
IDS = [f"s{number}" for number in range(COUNT)]


def matched(names, scores):
    people = {"query_patient_id": names, "nearest_patient_id": ["p"] * len(names)}
    people |= {"unseen_patient_id": ["u"] * len(names), "unseen_score": scores}
    return rows(MATCHES, len(names), query_id=names, score=scores, structure_score=scores, **people)


@pytest.fixture
def context(tmp_path):
    """Of four samples in each of two ways the search keeps two of one."""
    store = Store.open(str(tmp_path))
    made = {"guidance_scale": [1.0, 4.0] * 4, "num_inference_steps": [2] * COUNT}
    store.write_table("samples/part-0.parquet", rows(SAMPLES, COUNT, sample_id=IDS, **made))
    keep = [number in (1, 3) for number in range(COUNT)]
    reasons = ["kept" if kept else "another_way" for kept in keep]
    store.write_table("verdicts/part-0.parquet", rows(VERDICTS, COUNT, sample_id=IDS, keep=keep, reason=reasons))
    strangers = [f"x{number}" for number in range(40)]
    for eye in ("matches", "auditor"):
        # Of each way one resembles somebody more than any stranger does.
        store.write_table(f"{eye}/samples/part-0.parquet", matched(IDS, [0.0] * 6 + [0.99] * 2))
        for role in ("calibration", "evaluation", "probe"):
            store.write_table(f"{eye}/{role}/part-0.parquet", matched(strangers, np.linspace(0, 0.9, 40)))
    for role in ("train", "evaluation"):
        store.write_table(f"{role}/part-0.parquet", records(role, np.ones((2, 16, 16), np.uint8)))
    store.write_json("findings/findings.json", {"findings": []})
    names = ("samples", "verdicts", "policy", "matches", "auditor", "train", "evaluation", "findings")
    return Context(inputs={name: store / name for name in names}, out=store / "out", work=store / "work", seed=0)


@pytest.mark.parametrize(("selection", "of", "kept"), [({"guidance_scale": 4.0}, 4, 2), ({}, 8, 2)])
def test_rules_choose_among_what_was_made_in_the_chosen_way(context, selection, of, kept):
    fpirs = {"target_fpir": 0.1, "near_copy_fpir": 0.1, "identity_threshold": 0.5, "near_copy_threshold": 0.5}
    context.inputs["policy"].write_json("policy.json", Policy(**fpirs, selection=selection).model_dump())
    how = RulesNodeConfig(evaluate=EvaluateConfig(), seeds=1)
    assert Rules("simple_rules", how, {}, 0).run(context).counts["samples"] == of
    found = context.out.read_json("metrics.json")
    shares = {name: (one["value"], one["n"]) for name, one in found.items() if name.startswith("rule_kept.")}
    assert shares == {
        "rule_kept.chosen": (kept / of, of),
        "rule_kept.random_drop": (kept / of, of),
        "rule_kept.no_filter": (1.0, of),
        "rule_kept.fixed_fpir": (0.75, of),
        "rule_kept.percentile_95": (0.75, of),
    }
