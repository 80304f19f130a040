import numpy as np
import pyarrow as pa

from raydistill.metrics.filtering import selftest_metrics


def planted(**columns):
    """Ten pictures of ten train patients by two treatments each, and as many of strangers."""
    roles, treatments = np.repeat(["train", "calibration"], 20), np.tile(np.repeat(["blur", "noise_0.5"], 10), 2)
    people = [f"{role}-{number % 10}" for role, number in zip(roles, range(40), strict=True)]
    return pa.table({"source_role": roles, "treatment": treatments, "patient_id": people, **columns})


def test_what_no_longer_shows_the_patient_is_not_held_against_the_filter():
    shows = np.arange(40) < 14
    flagged = np.isin(np.arange(40), [*range(10), 10, 11, 30])
    found = selftest_metrics(planted(is_copy=shows), flagged, [], 0.95)
    assert found["sensitivity"].value == 12 / 14
    assert found["sensitivity.generator"].value == 2 / 4
    assert found["sensitivity.noise_0.5"].value == 2 / 10
    assert found["still_copies"].value == 4 / 10
    assert (found["false_flag_rate"].value, found["false_flag_rate.generator"].value) == (1 / 20, 1 / 10)


def test_where_nothing_shows_a_patient_nothing_is_said():
    shows = np.tile(np.repeat([True, False], 10), 2)
    found = selftest_metrics(planted(is_copy=shows), np.ones(40, bool), [], 0.95)
    assert found["sensitivity.generator"].value is None
    assert found["still_copies"].value == 0.0
