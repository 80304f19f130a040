import numpy as np
import pyarrow as pa
import pytest

from raydistill.metrics.filtering import agreement, selftest_metrics


def planted(**columns):
    """Ten pictures of ten train patients by two treatments each, and as many of strangers."""
    roles, treatments = np.repeat(["train", "calibration"], 20), np.tile(np.repeat(["blur", "noise_0.5"], 10), 2)
    people = [f"{role}-{number % 10}" for role, number in zip(roles, range(40), strict=True)]
    return pa.table({"source_role": roles, "treatment": treatments, "patient_id": people, **columns})


def test_what_no_longer_shows_the_patient_is_not_held_against_the_filter():
    shows, recognised = np.arange(40) < 14, np.arange(40) < 11
    flagged = np.isin(np.arange(40), [*range(10), 10, 11, 30])
    found = selftest_metrics(planted(is_copy=shows, is_recognised=recognised), flagged, [], 0.95)
    assert found["sensitivity"].value == 12 / 14
    assert found["sensitivity.generator"].value == 2 / 4
    assert (found["sensitivity.generator_recognised"].value, found["sensitivity.generator_recognised"].n) == (1.0, 1)
    assert found["sensitivity.noise_0.5"].value == 2 / 10
    assert found["still_copies"].value == 4 / 10
    assert (found["false_flag_rate"].value, found["false_flag_rate.generator"].value) == (1 / 20, 1 / 10)


def test_where_nothing_shows_a_patient_nothing_is_said():
    shows = np.tile(np.repeat([True, False], 10), 2)
    found = selftest_metrics(planted(is_copy=shows, is_recognised=shows), np.ones(40, bool), [], 0.95)
    assert found["sensitivity.generator"].value is None
    assert found["still_copies"].value == 0.0


@pytest.mark.parametrize("shared", [0.5, 0.95])
def test_the_interval_of_an_agreement_covers_the_truth(shared):
    """Two eyes see the same picture, each with noise of its own; pictures of one person are alike."""
    rng = np.random.default_rng(0)

    def flags(people):
        whose = np.repeat(np.arange(people), 3)
        seen = (rng.normal(size=people)[whose] + rng.normal(size=len(whose))) / np.sqrt(2)
        noise = np.sqrt(1 - shared) * rng.normal(size=(2, len(whose)))
        first, second = np.sqrt(shared) * seen + noise > 0.5
        return first, second, whose

    first, second, _ = flags(200_000)
    truth = (first & second).sum() / (first | second).sum()
    intervals = [agreement(*flags(60), seed=seed)["jaccard_interval"] for seed in range(300)]
    assert 0.92 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.98


def test_the_pair_that_decides_is_the_one_of_which_least_is_known():
    pair = {"among": "planted", "kappa": 0.5, "n": 60, "both": 40, "either": 45}
    sure = pair | {"eyes": ["filter", "judge"], "jaccard": 0.85, "jaccard_interval": (0.82, 0.88), "kappa": 0.4}
    vague = pair | {"eyes": ["filter", "auditor"], "jaccard": 0.87, "jaccard_interval": (0.6, 0.97)}
    shows = np.ones(40, bool)
    found = selftest_metrics(planted(is_copy=shows, is_recognised=shows), shows, [sure, vague], 0.95)
    assert found["consistency_jaccard"].interval == (0.6, 0.97)
    assert "filter and auditor" in found["consistency_jaccard"].note
    assert found["consistency_kappa"].value == 0.4
