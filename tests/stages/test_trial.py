"""Settings of the search: what is open, what stays, what is best, and what nothing beats."""

import pandas as pd
import pytest
from pydantic import ValidationError

from raydistill.core.config import Config, SearchSpace
from raydistill.distributed.tune import Bounds
from raydistill.stages.trial import bounds_of, searched, setting_of
from raydistill.stages.tune import choose, undominated


def table(*rows):
    columns = ("objective", "risk_high", "kept_share", "excess", "networks", "network_utility")
    frame = pd.DataFrame(rows, columns=columns)
    frame["feasible"] = frame["excess"] == 0
    return frame


def test_a_number_stays_as_it_is_and_a_range_is_searched():
    space = SearchSpace(target_fpir=0.02, patient_quota=(2, 8), guidance_scales=(2.0,), steps=(10, 20))
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
            {"tune": {"space": {"prompt_patients": 3}}, "teacher_samples": {"requests": {"table": "x.csv"}}},
            "nobody knows who shares them",
        ),
        (
            {"tune": {"space": {"steps": [3, 4]}}, "teacher_samples": {"ways": [[1.0, 2]]}},
            "say what is taken turns in",
        ),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        Config(**wrong)


def test_the_most_useful_feasible_setting_is_chosen_and_networks_decide_where_they_looked():
    rows = [(0.9, 0.3, 0.9, 0.2, 0, None), (0.7, 0.05, 0.5, 0.0, 0, None), (0.8, 0.05, 0.5, 0.0, 0, None)]
    assert choose(table(*rows)) == 2
    looked = [(0.7, 0.05, 0.5, 0.0, 2, 0.61), (0.8, 0.05, 0.5, 0.0, 2, 0.6), (0.9, 0.05, 0.5, 0.0, 1, 0.9)]
    assert choose(table(*looked)) == 0
    same = [(0.7, 0.06, 0.5, 0.0, 0, None), (0.7, 0.05, 0.5, 0.0, 0, None)]
    assert choose(table(*same)) == 1
    broken = [(0.9, 0.3, 0.9, 0.2, 0, None), (0.5, 0.2, 0.9, 0.1, 0, None)]
    assert choose(table(*broken)) == 1


def test_on_the_front_is_what_no_other_feasible_setting_beats():
    rows = [
        (0.8, 0.05, 0.5, 0.0, 0, None),
        (0.7, 0.02, 0.5, 0.0, 0, None),
        (0.7, 0.05, 0.5, 0.0, 0, None),  # as risky as the first, less useful
        (0.9, 0.01, 0.9, 0.1, 0, None),  # breaks a bound
        (0.6, 0.09, 0.9, 0.0, 0, None),
    ]
    assert undominated(table(*rows)).tolist() == [True, True, False, False, True]
