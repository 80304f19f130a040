"""The best settings are looked at by networks: who goes on, what is said of those who don't, what a kill costs."""

import numpy as np
import pandas as pd
import pytest

from raydistill.core.progress import silent
from raydistill.core.store import Store
from raydistill.stages.rungs import Pictures, candidates_of, climb, rank_agreement, train_one

SAMPLES, SIDE = 24, 16


def pictures():
    """Bright pictures have the finding."""
    rng = np.random.default_rng(0)
    labels = np.arange(SAMPLES)[:, None] % 2
    images = (rng.integers(0, 60, (SAMPLES, SIDE, SIDE)) + 150 * labels[:, :, None]).astype(np.uint8)
    patients = np.array([f"p{i}" for i in range(SAMPLES)])
    labels = labels.astype(np.float32)
    return Pictures(images, labels, images, labels, patients, steps=2, seed=0)


def table(**columns):
    rows = {"feasible": [True] * 4, "objective": [0.5, 0.8, 0.7, 0.6], "utility": [0.5, 0.8, 0.7, 0.6]}
    return pd.DataFrame(rows | columns)


def kept(row):
    """Rows 1 and 2 keep the same."""
    keep = np.ones(SAMPLES, bool)
    keep[: {0: 2, 1: 4, 2: 4, 3: 6}[row]] = False
    return keep


def test_candidates_are_the_best_that_differ_and_keep_their_bounds():
    assert candidates_of(table(), kept, 4) == [0, 1, 3]
    assert candidates_of(table(), kept, 2) == [1, 3]
    assert candidates_of(table(feasible=[True, False, True, False]), kept, 2) == [0, 2]
    assert candidates_of(table(), kept, 0) == []


@pytest.mark.ray
def test_the_better_half_goes_on_and_a_kill_costs_no_network(local_ray, tmp_path):
    work, known = Store.open(str(tmp_path)), [0.6, 0.9, 0.7]
    found = climb(table(), kept, pictures(), 3, work, silent)
    assert found["networks"].tolist() == [1, 1, 0, 1]
    assert found["network_utility"].notna().tolist() == [True, True, False, True]
    names = sorted(work.files())
    assert len(names) == 3
    # What is there isn't made again: these numbers come from the files, whoever wrote them.
    for name, area in zip(names, known, strict=True):
        work.write_json(name, {"area": area})
    again = climb(table(), kept, pictures(), 3, work, silent)
    assert sorted(again["network_utility"].dropna()) == sorted(known)


@pytest.mark.ray
def test_of_four_two_get_a_second_network(local_ray, tmp_path):
    own = {row: np.arange(SAMPLES) >= row for row in range(4)}
    found = climb(table(), lambda row: own[row], pictures(), 4, Store.open(str(tmp_path)), silent)
    assert sorted(found["networks"]) == [1, 1, 2, 2]
    best = found["network_utility"].where(found["networks"] == 2)
    assert best.notna().sum() == 2


def test_a_network_learns_what_its_pictures_show(tmp_path):
    shared = (Pictures(**{**vars(pictures()), "steps": 40}), {0: np.ones(SAMPLES, bool)})
    assert train_one(shared, 0, rung=0, work=Store.open(str(tmp_path))) > 0.9


def test_agreement_is_kendalls_and_needs_four_settings():
    agreeing = table(network_utility=[0.1, 0.4, 0.3, 0.2])
    assert rank_agreement(agreeing, 0.95).value == pytest.approx(1)
    assert rank_agreement(table(network_utility=[0.4, 0.1, 0.2, 0.3]), 0.95).value == pytest.approx(-1)
    few = rank_agreement(table(network_utility=[0.1, 0.4, 0.3, np.nan]), 0.95)
    assert few.value is None
    assert "3 settings" in few.note
