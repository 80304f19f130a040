from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.core.errors import InputError
from raydistill.reid.batches import PatientBatches

cohorts = st.lists(st.integers(1, 9), min_size=2, max_size=12)  # images of each patient
COMMON = settings(max_examples=60)


def shuffled_ids(counts, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat([f"p{number}" for number in range(len(counts))], counts))


@COMMON
@given(counts=cohorts, patients=st.integers(2, 5), each=st.integers(2, 5), step=st.integers(0, 10**6))
def test_a_batch_holds_whole_patients_side_by_side_with_as_many_distinct_images_as_there_are(
    counts, patients, each, step
):
    ids = shuffled_ids(counts)
    rows = PatientBatches(ids, patients, each, seed=1).rows(step)
    assert rows.shape == (patients * each,)
    for group in rows.reshape(patients, each):
        (patient,) = set(ids[group])
        uses = Counter(group.tolist())
        assert len(uses) == min(each, (ids == patient).sum())
        assert max(uses.values()) - min(uses.values()) <= 1


@COMMON
@given(counts=cohorts, patients=st.integers(2, 5), epochs=st.integers(1, 3))
def test_patients_are_equally_often_in_every_epoch_however_many_images_they_have(counts, patients, epochs):
    ids = shuffled_ids(counts)
    batches = PatientBatches(ids, patients, 2, seed=7)
    steps = -(-epochs * len(counts) // patients)
    order = np.concatenate([ids[batches.rows(step)[::2]] for step in range(steps)])
    for epoch in range(epochs):
        assert len(set(order[epoch * len(counts) : (epoch + 1) * len(counts)])) == len(counts)


@COMMON
@given(counts=cohorts, seed=st.integers(0, 2**63 - 1), step=st.integers(0, 10**6))
def test_a_batch_is_a_function_of_seed_and_step(counts, seed, step):
    ids = shuffled_ids(counts)
    first, second = PatientBatches(ids, 3, 4, seed), PatientBatches(ids, 3, 4, seed)
    for other in range(3):
        second.rows(other)  # what was asked before must not matter
    np.testing.assert_array_equal(first.rows(step), second.rows(step))


def test_another_seed_or_step_gives_another_batch():
    ids = shuffled_ids([3] * 50)
    rows = {tuple(PatientBatches(ids, 8, 2, seed).rows(step)) for seed in range(4) for step in range(5)}
    assert len(rows) == 20


def test_epochs_differ_in_their_order():
    ids = shuffled_ids([1] * 20)
    batches = PatientBatches(ids, 20, 2, seed=0)
    assert not np.array_equal(batches.rows(0), batches.rows(1))


def test_a_patient_with_many_images_is_not_shown_more_often_and_shows_them_all():
    ids = np.array(["many"] * 66 + [f"p{number}" for number in range(33)])
    batches = PatientBatches(ids, 17, 2, seed=3)
    rows = np.concatenate([batches.rows(step) for step in range(400)])  # 200 epochs of 34 patients
    assert set(Counter(ids[rows]).values()) == {400}
    assert set(rows[ids[rows] == "many"]) == set(range(66))


def test_a_patient_with_one_image_repeats_it():
    rows = PatientBatches(["a", "b"], 2, 4, seed=0).rows(0)
    assert sorted(rows.tolist()) == [0] * 4 + [1] * 4


@pytest.mark.parametrize(("ids", "number"), [([], 0), (["a"], 1), (["a", "a", "a"], 1)])
def test_fewer_than_two_patients_are_refused(ids, number):
    with pytest.raises(InputError, match=f"at least two train patients, got {number}"):
        PatientBatches(ids, 2, 2, seed=0)
