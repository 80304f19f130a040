"""Patients hit again and again: counts, controls, and tests that hold their level."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raydistill.metrics.patients import EXCESS, HIT_TIMES, fisher, hits_by_patient, holm, patients_hit


def test_hits_are_counted_by_patient_also_where_there_are_none():
    hits = hits_by_patient([True, False, True, True], ["a", "b", "c", "c"], 4)
    assert sorted(hits.tolist()) == [0, 0, 1, 2]
    assert hits_by_patient([], [], 2).tolist() == [0, 0]


@given(st.integers(0, 9), st.integers(0, 9))
def test_the_test_is_scipys(hit, control):
    table = [[hit, 9 - hit], [control, 12 - control]]
    assert fisher(hit, 9, control, 12) == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.2]) == pytest.approx([0.04, 0.09, 0.09, 0.2])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


NAMES = [f"patients_hit_{k}" for k in HIT_TIMES]


def p_values(results):
    return [float(results[name].note.split("adjusted p ")[1].split(";")[0]) for name in NAMES]


def test_shares_controls_and_intervals():
    results = patients_hit([(np.array([0, 1, 2, 12]), np.array([0, 0, 0, 1, 0]))])
    assert list(results) == [*NAMES, EXCESS]
    assert [results[name].value for name in NAMES] == [0.75, 0.5, 0.25, 0.25]
    assert [results[name].control for name in NAMES] == [0.2, 0.0, 0.0, 0.0]
    assert all(result.interval[0] <= result.value <= result.interval[1] for result in results.values())
    assert "3 patients, by chance 0.8" in results["patients_hit_1"].note
    assert patients_hit([(np.array([1]), np.array([], int))])["patients_hit_1"].value is None


@pytest.mark.parametrize("unevenness", [0.2, 3.0])
def test_chance_hits_are_called_memorisation_no_more_often_than_said(unevenness):
    """Faces differ in how average they are, and more so than a Poisson law has it: the level holds all the same."""
    rng, wrong, certain, rounds = np.random.default_rng(0), 0, 0, 1500
    for _ in range(rounds):
        means = rng.gamma(1 / unevenness, 0.8 * unevenness, 150 + 60)
        hits = rng.poisson(means)
        results = patients_hit([(hits[:150], hits[150:])])
        wrong += min(p_values(results)) <= 0.05
        certain += results[EXCESS].interval[0] > 0
    assert wrong / rounds < 0.05 + 2 * np.sqrt(0.05 * 0.95 / rounds)
    assert certain / rounds < 0.01


def test_a_few_patients_reproduced_often_are_found_where_the_rate_hides_them():
    rng, found, certain = np.random.default_rng(1), 0, 0
    for _ in range(100):
        hits = rng.poisson(rng.gamma(1.0, 0.5, 150 + 100))
        hits[:20] += 10
        results = patients_hit([(hits[:150], hits[150:])])
        found += min(p_values(results)) <= 0.05
        certain += results[EXCESS].interval[0] > 0
    assert found > 90
    assert certain > 90


@pytest.mark.parametrize("shared", [0, 60])
def test_looking_at_several_parts_of_the_galleries_finds_no_more_by_chance(shared):
    """Whatever the parts have in common: all of their patients, or some."""
    rng, wrong, rounds = np.random.default_rng(2), 0, 400
    for _ in range(rounds):
        hits = rng.poisson(rng.gamma(1.0, 0.8, 150 + 150))
        train, unseen = hits[:150], hits[150:]
        rows = [np.append(np.arange(shared), rng.permutation(np.arange(shared, 150))[: 75 - shared]) for _ in range(8)]
        results = patients_hit([(train[part], unseen[part]) for part in rows])
        wrong += min(p_values(results)) <= 0.05
    assert wrong / rounds < 0.05 + 2 * np.sqrt(0.05 * 0.95 / rounds)
