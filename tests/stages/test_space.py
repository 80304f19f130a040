"""What a cohort doesn't support isn't searched, and that is said."""

import pyarrow as pa
import pytest

from raydistill.core.searching import SearchSpace
from raydistill.data.prompts import SHARING
from raydistill.data.vocabulary import BASE_PROMPT
from raydistill.stages.selecting import candidates
from raydistill.stages.space import cut_fpirs, cut_prompts, in_reach
from tests.stages.test_trial import evidence

PATIENTS = 40
LEAST = pytest.approx(1 / (PATIENTS + 1))


def test_error_rates_that_calibration_does_not_support_are_not_searched_and_that_is_said():
    known = evidence()
    asked = SearchSpace(target_fpir=(0.01, 0.05), near_copy_fpir=0.001)
    space = in_reach(asked, known.supported_fpir)
    assert space.target_fpir == (LEAST, 0.05)
    assert space.near_copy_fpir == (LEAST, LEAST)
    assert cut_fpirs(asked, space, known.calibration_patients) == [
        "40 calibration patients can't support a target_fpir of 0.01; nothing under 0.0244 was tried",
        "40 calibration patients can't support a near_copy_fpir of 0.001; nothing under 0.0244 was tried",
    ]


def test_more_patients_than_share_any_prompt_are_not_asked_for():
    asked = SearchSpace(prompt_patients=(6, 400))
    space = in_reach(asked, 0.01, evidence(shared=[19] * 20 + [7] * 20).most_sharing)
    assert space.prompt_patients == (6, 19)
    (said,) = cut_prompts(asked, space)
    assert "shared by 400 train patients" in said
    assert "19 were asked for at most" in said
    assert in_reach(SearchSpace(prompt_patients=(50, 400)), 0.01, 19).prompt_patients == (19, 19)


def test_what_the_cohort_supports_stays_and_nothing_is_said():
    asked = SearchSpace(target_fpir=(0.03, 0.05), prompt_patients=(6, 9))
    for most in (9, None):
        space = in_reach(asked, 0.01, most)
        assert space == asked
        assert cut_fpirs(asked, space, PATIENTS) == cut_prompts(asked, space) == []
    assert cut_prompts(SearchSpace(), SearchSpace()) == []


def test_of_the_prompt_that_says_nothing_nobody_asks_who_shares_it():
    samples = {"sample_id": ["a", "b", "c"], "labels": [[]] * 3, "prompt": [BASE_PROMPT, "chest x-ray, mass", "else"]}
    samples |= {"guidance_scale": [1.0] * 3, "num_inference_steps": [2] * 3}
    sharing = pa.table({"prompt": [BASE_PROMPT, "chest x-ray, mass"], "patients": [90, 6]}, schema=SHARING)
    matches = pa.table({"score": [0.1] * 3, "nearest_patient_id": ["p"] * 3})
    found = candidates(pa.table(samples), matches, sharing)
    assert found["prompt_patients"].to_pylist() == [None, 6, 0]
