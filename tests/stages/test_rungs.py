"""The best settings are looked at by networks: who goes on, what is said of those who don't, what a kill costs."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from raydistill.core.progress import silent
from raydistill.core.section import Compute
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.stages.classifier import Lesson, Pupil, teach
from raydistill.stages.rungs import candidates_of, climb, first_look, luck_of

SAMPLES, SIDE = 24, 16
ONE = Compute(num_workers=1)


def lesson(steps=2):
    """Bright pictures have the finding."""
    rng = np.random.default_rng(0)
    labels = np.arange(SAMPLES)[:, None] % 2
    images = (rng.integers(0, 60, (SAMPLES, SIDE, SIDE)) + 150 * labels[:, :, None]).astype(np.uint8)
    return Lesson(images, labels.astype(np.float32), images, steps)


def climbed(most, work, kept=None):
    truth = lesson().labels, np.arange(SAMPLES)
    found, said = climb(table(), kept or globals()["kept"], lesson(), truth, most, 0, ONE, work, silent)
    assert {row: len(own) for row, own in said.items()} == found["networks"][found["networks"] > 0].to_dict()
    return found


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
    assert candidates_of(table(utility=[0.5, np.nan, np.nan, 0.6]), kept, 4) == [0, 3]


@pytest.mark.ray
def test_the_better_half_goes_on_and_a_kill_costs_no_network(local_ray, tmp_path):
    work = Store.open(str(tmp_path))
    found = climbed(3, work)
    assert found["networks"].tolist()[2] == 0
    assert sorted(found["networks"]) == [0, 1, 2, 2]
    assert found["network_utility"].notna().tolist() == [True, True, False, True]
    assert len(work.files()) == 5
    first, second = (str(derive_seed(0, "rung", rung)) for rung in range(2))
    names = sorted(name for name in work.files() if first in name)
    # What is there isn't made again: these answers come from the files, whoever wrote them.
    right = lesson().labels
    for name, answers in zip(names, (right, 1 - right, right), strict=True):
        for other in (name, name.replace(first, second)):
            content = BytesIO()
            np.save(content, answers)
            work.write_bytes(other, content.getvalue())
    again = climbed(3, work)
    assert sorted(again["network_utility"].dropna()) == [0, 1, 1]
    assert sorted(again["network_spread"].dropna()) == [0, 0]
    # What is looked at for the agreement is the first rung's network: nobody is trained anew.
    rows = [0, 1, 3]
    beside = first_look(rows, kept, lesson(), (right, np.arange(SAMPLES)), 0, ONE, work, silent)
    assert beside.to_dict() == again["network_utility"][rows].to_dict()
    assert len(work.files()) == 6


@pytest.mark.ray
def test_of_four_two_get_a_second_network(local_ray, tmp_path):
    own = {row: np.arange(SAMPLES) >= row for row in range(4)}
    found = climbed(4, Store.open(str(tmp_path)), lambda row: own[row])
    assert sorted(found["networks"]) == [1, 1, 2, 2]
    best = found["network_utility"].where(found["networks"] == 2)
    assert best.notna().sum() == 2
    assert found["network_spread"].notna().equals(found["networks"] == 2)


@pytest.mark.ray
@pytest.mark.parametrize(("most", "networks"), [(1, [1]), (2, [2, 2])])
def test_two_get_two_networks_each_and_one_alone_needs_no_second(local_ray, tmp_path, most, networks):
    found = climbed(most, Store.open(str(tmp_path)))
    assert sorted(found["networks"])[-most:] == networks
    assert found["networks"].sum() == sum(networks)


def test_luck_is_pooled_over_all_that_several_networks_looked_at():
    spreads = {"networks": [1, 2, 3, 0], "network_spread": [np.nan, 0.04, 0.01, np.nan]}
    variance = (0.04**2 + 2 * 0.01**2) / 3
    assert luck_of(table(**spreads), 3) == pytest.approx(np.sqrt(2 * variance / 3))
    assert luck_of(table(networks=[1, 1, 0, 0], network_spread=[np.nan] * 4), 1) == 0


@pytest.mark.ray
def test_a_network_learns_what_its_pictures_show(local_ray, tmp_path):
    everything, pupils = {"all": np.ones(SAMPLES, bool)}, [Pupil("all", 0)]
    (answers,) = teach(lesson(steps=40), everything, pupils, ONE, Store.open(str(tmp_path)), silent)
    assert roc_auc_score(lesson().labels, answers) > 0.9
