"""Settings of the search: what is open, what stays, what is best, and what nothing beats."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from raydistill.core.columns import MATCHES
from raydistill.core.config import Config
from raydistill.core.searching import SearchSpace
from raydistill.distributed.tune import Bounds
from raydistill.matching.selection import SELECTED
from raydistill.pipeline import wire
from raydistill.stages.outcomes import broken
from raydistill.stages.space import bounds_of, searched, setting_of
from raydistill.stages.trial import Evidence, evaluate_setting
from tests.stages.test_filter import rows


def test_a_number_stays_as_it_is_and_a_range_is_searched():
    space = SearchSpace(
        target_fpir=0.02, near_copy_fpir=(0.005, 0.03), patient_quota=(2, 8), guidance_scales=(2.0,), steps=(10, 20)
    )
    assert list(bounds_of(space)) == [
        "target_fpir", "near_copy_fpir", "patient_quota", "balance", "guidance_scale", "num_inference_steps",
    ]  # fmt: skip
    assert searched(space) == {
        "near_copy_fpir": Bounds(0.005, 0.03),
        "patient_quota": Bounds(2, 8, is_whole=True),
        "num_inference_steps": (10, 20),
    }
    setting = setting_of(space, {"near_copy_fpir": 0.01, "patient_quota": 3, "num_inference_steps": 20})
    assert setting == {
        "target_fpir": 0.02, "near_copy_fpir": 0.01, "patient_quota": 3, "balance": 0.0, "guidance_scale": 2.0,
        "num_inference_steps": 20,
    }  # fmt: skip


def test_samples_take_turns_only_where_there_is_something_to_choose():
    usual = Config().teacher_samples
    assert Config().teacher_samples_in_turn == usual
    config = Config(tune={"space": {"guidance_scales": [1.0, 3.0], "steps": [5]}})
    assert config.teacher_samples_in_turn.ways == ((1.0, 5), (3.0, 5))
    assert Config(tune={"space": {"steps": [5, 9]}}).teacher_samples_in_turn.ways == (
        (usual.guidance_scale, 5),
        (usual.guidance_scale, 9),
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tune": {"space": {"target_fpir": [0.1, 0.05]}}}, "from a smaller to a larger"),
        ({"tune": {"space": {"balance": 1.5}}}, "less than or equal to 1"),
        ({"tune": {"space": {"guidance_scales": [0.5]}}}, "greater than or equal to 1"),
        (
            {"tune": {"space": {"prompt_patients": 30}}, "teacher_samples": {"requests": {"table": "x.csv"}}},
            "nobody knows who shares them",
        ),
        (
            {"tune": {"space": {"prompt_patients": [2, 3]}}, "ingest": {"prompts": {"k": 3}}},
            "is shared by ingest.prompts.k anyway",
        ),
        ({"tune": {"algorithm": "grid", "num_trials": 3, "space": {"steps": [1, 2, 3, 4]}}}, "has 4 points"),
        (
            {"tune": {"space": {"steps": [3, 4]}}, "teacher_samples": {"ways": [[1.0, 2]]}},
            "say what is taken turns in",
        ),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        Config(**wrong)


MANY, FEW = 40, 20
SETTING = {"target_fpir": 0.05, "near_copy_fpir": 0.05}


def matched(count, prefix, **columns):
    people = [f"{prefix}{number}" for number in range(count)]
    same = {"query_id": people, "query_patient_id": people, "nearest_patient_id": ["p"] * count}
    scores = {"score": [0.1] * count, "structure_score": [0.1] * count}
    return rows(MATCHES, count, **(same | scores | columns))


def evidence(labelled=MANY, shared=None, counted=MANY, **judged):
    """All samples are alike; every other one has the finding, and the features say so."""
    strangers = matched(40, "s", score=np.linspace(0, 0.9, 40), structure_score=np.linspace(0, 0.9, 40))
    matches = matched(counted, "m")
    columns = {"sample_id": matches["query_id"], "score": matches["score"], "labels": [["x"]] * counted}
    columns |= {"nearest_patient_id": matches["nearest_patient_id"], "prompt_patients": shared or [9] * counted}
    columns |= {name: np.ones(counted, np.float32) for name in ("guidance_scale", "num_inference_steps")}
    looked = np.arange(MANY)
    labels = (looked[:, None] % 2).astype(np.float32)
    features = np.random.default_rng(0).normal(size=(MANY, 3)).astype(np.float32) + 3 * labels
    return Evidence(
        matches=matches,
        candidates=pa.table([columns[name] for name in SELECTED], names=list(SELECTED)),
        looked=looked,
        panel=np.array([0, 1]),
        strangers=strangers,
        judge=matched(MANY, "m", **judged),
        judge_strangers=strangers,
        images=np.zeros((MANY, 1, 1), np.uint8),
        test_images=np.zeros((MANY, 1, 1), np.uint8),
        features=features,
        labels=labels,
        has_labels=np.arange(MANY) < labelled,
        prompts=np.where(labels[:, 0] == 1, "x", ""),
        test_features=features,
        test_labels=labels,
        test_patients=np.arange(MANY),
    )


def measured(evidence, **tune):
    limits = {"max_reidentification_rate": 1.0, "max_near_copy_rate": 1.0} | tune
    config = next(stage for stage in wire(Config(tune=limits)) if stage.node == "tune").config
    return evaluate_setting(SETTING, evidence, config)


def test_what_a_probe_can_learn_is_the_objective():
    found = measured(evidence())
    assert found["feasible"]
    assert found["objective"] == found["utility"] > 0.9


def test_a_setting_that_keeps_nothing_to_learn_from_is_worth_nothing_and_infeasible():
    shared = [1] * FEW + [9] * (MANY - FEW)
    found = measured(evidence(labelled=FEW, shared=shared), space={"prompt_patients": 8})
    assert found["kept_share"] == 0.5
    assert found["objective"] == 0.0
    assert np.isnan(found["utility"])
    assert not found["feasible"]


def test_without_anything_to_learn_at_all_the_share_that_is_kept_is_the_objective():
    found = measured(evidence(labelled=0))
    assert (found["objective"], found["feasible"]) == (1.0, True)


def test_a_quota_counts_samples_that_nobody_looks_at():
    space = {"patient_quota": MANY}
    assert measured(evidence(), space=space)["kept_share"] == 1.0
    assert measured(evidence(counted=4 * MANY), space=space)["kept_share"] < 1.0


def test_nothing_of_what_the_judge_recognises_is_put_down_to_chance():
    """Samples that show nobody are taken for somebody less often than strangers are: chance would hide a leak."""
    shown = {"score": [0.95] * 4 + [0.1] * (MANY - 4)}
    found = measured(evidence(**shown), max_reidentification_rate=0.1)
    assert found["risk"] == pytest.approx(4 / MANY)
    assert found["risk_high"] > found["risk"]
    assert broken(pd.DataFrame([found])) == {"risk": 1}


def test_near_copies_break_a_bound_of_their_own():
    copies = {"structure_score": [0.95] * FEW + [0.1] * (MANY - FEW)}
    found = measured(evidence(**copies), max_near_copy_rate=0.1)
    assert found["constraints"]["risk"] <= 0 < found["constraints"]["near_copies"]
    assert found["breaks_near_copies"] == found["excess"] == found["constraints"]["near_copies"]
    assert broken(pd.DataFrame([found])) == {"near_copies": 1}
    assert not found["feasible"]
