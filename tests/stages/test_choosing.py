"""Which setting is taken: patients are few and networks have luck, so the best is known within an error only."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from raydistill.stages.choosing import choose, eligible, moved_by, said_by, undominated
from tests.stages.test_trial import MANY, evidence

ALIKE = np.zeros(20)
"""How patients move the utility of settings that differ for none of them."""


def moving(error):
    """How 20 patients move a difference whose standard error is so large."""
    return error * np.sqrt(19) / 20 * np.tile([1.0, -1.0], 10)


def table(*rows):
    columns = ("objective", "risk_high", "kept_share", "excess", "networks", "network_utility", "network_spread")
    frame = pd.DataFrame([(*row, np.nan)[: len(columns)] for row in rows], columns=columns)
    frame["feasible"] = frame["excess"] == 0
    frame = frame.astype({"network_utility": float})
    return frame


def test_the_most_useful_feasible_setting_is_chosen_and_networks_decide_where_they_looked():
    rows = [(0.9, 0.3, 0.9, 0.2, 0, None), (0.7, 0.05, 0.5, 0.0, 0, None), (0.8, 0.05, 0.5, 0.0, 0, None)]
    assert choose(table(*rows), {}).row == 2
    looked = [(0.7, 0.05, 0.5, 0.0, 2, 0.61), (0.8, 0.05, 0.5, 0.0, 2, 0.6), (0.9, 0.05, 0.5, 0.0, 1, 0.9)]
    assert choose(table(*looked), {}).row == 0
    same = [(0.7, 0.06, 0.5, 0.0, 0, None), (0.7, 0.05, 0.5, 0.0, 0, None)]
    assert choose(table(*same), {}).row == 1
    broken = [(0.9, 0.3, 0.9, 0.2, 0, None), (0.5, 0.2, 0.9, 0.1, 0, None)]
    assert choose(table(*broken), {}).row == 1


@pytest.mark.parametrize(("spread", "chosen"), [(0.02, 1), (0.001, 0), (0.0, 0)])
def test_of_settings_that_differ_by_less_than_luck_the_less_risky_is_chosen(spread, chosen):
    """Two networks each: the standard error of the difference is their spread. The third had one, and lost."""
    looked = [
        (0.7, 0.06, 0.5, 0.0, 2, 0.61, spread),
        (0.8, 0.05, 0.5, 0.0, 2, 0.6, spread),
        (0.9, 0.01, 0.5, 0.0, 1, 0.61, np.nan),
        (0.9, 0.01, 0.5, 0.2, 0, np.nan, np.nan),
    ]
    assert choose(table(*looked), {"network_utility": {0: ALIKE, 1: ALIKE}}).row == chosen


@pytest.mark.parametrize(("error", "chosen"), [(0.009, 0), (0.011, 1)])
def test_of_settings_that_patients_can_t_tell_apart_the_less_risky_is_chosen(error, chosen):
    """No luck at all: the error is that of the difference, however much patients move both alike."""
    looked = [(0.7, 0.06, 0.5, 0.0, 2, 0.61, 0.0), (0.8, 0.05, 0.5, 0.0, 2, 0.6, 0.0)]
    shared = moving(0.5)[::-1]
    moved = {"network_utility": {0: shared, 1: shared + moving(error)}}
    assert choose(table(*looked), moved).row == chosen


def test_patients_and_luck_add_up():
    """Two networks each: neither error alone is a hundredth, their squares together are."""
    looked = [(0.7, 0.06, 0.5, 0.0, 2, 0.61, 0.008), (0.8, 0.05, 0.5, 0.0, 2, 0.6, 0.008)]
    assert choose(table(*looked), {"network_utility": {0: ALIKE, 1: ALIKE}}).row == 0
    assert choose(table(*looked), {"network_utility": {0: ALIKE, 1: moving(0.008)}}).row == 1


def test_where_no_network_looks_the_probe_s_best_are_told_apart_by_patients_too():
    rows = [(0.71, 0.06, 0.5, 0.0, 0, None), (0.7, 0.05, 0.5, 0.0, 0, None), (0.6, 0.01, 0.5, 0.0, 0, None)]
    rows.append((0.9, 0.0, 0.5, 0.2, 0, None))
    assert choose(table(*rows), {"objective": {0: ALIKE, 1: moving(0.005), 2: moving(0.005)}}).row == 0
    assert choose(table(*rows), {"objective": {0: ALIKE, 1: moving(0.02), 2: moving(0.02)}}).row == 1
    # A single network tells nothing, and what breaks a bound is never equal.
    once = [(*row[:4], int(at == 0), 0.6 if at == 0 else None) for at, row in enumerate(rows)]
    assert choose(table(*once), {"objective": {0: ALIKE, 1: moving(0.02), 3: moving(0.5)}}).row == 1


def test_the_probe_is_asked_again_where_nobody_else_looked_and_nowhere_else():
    kept = [np.arange(MANY) >= 2 * row for row in range(4)]
    trials = table(*[(0.9 - 0.1 * row, 0.05, 0.5, 0.3 * (row == 3), 0, None) for row in range(4)])
    trials["utility"] = trials["objective"]
    own = evidence()
    own = replace(own, test_features=own.test_features[::-1] + 1, test_labels=own.test_labels[::-1])
    found = said_by(trials, kept.__getitem__, own, {}, {})
    # The last breaks a bound.
    assert list(found["objective"]) == [0, 1, 2]
    areas = [roc_auc_score(own.test_labels, answers) for answers in found["objective"].values()]
    assert min(areas) > 0.8
    moved = moved_by(found, own.test_labels, own.test_patients)["objective"]
    assert {len(one) for one in moved.values()} == {MANY}
    networks = {0: np.zeros((2, MANY, 1))}
    looked = trials.assign(networks=[2, 2, 1, 0])
    assert said_by(looked, kept.__getitem__, own, networks, {}) == {"network_utility": networks, "student_utility": {}}
    assert said_by(trials, kept.__getitem__, evidence(labelled=0), {}, {}) == {
        "network_utility": {},
        "student_utility": {},
    }


def test_on_the_front_is_what_no_other_feasible_setting_beats():
    rows = [
        (0.8, 0.05, 0.5, 0.0, 0, None),
        (0.7, 0.02, 0.5, 0.0, 0, None),
        (0.7, 0.05, 0.5, 0.0, 0, None),  # as risky as the first, less useful
        (0.9, 0.01, 0.9, 0.1, 0, None),  # breaks a bound
        (0.6, 0.09, 0.9, 0.0, 0, None),
    ]
    assert undominated(table(*rows)).tolist() == [True, True, False, False, True]


def test_with_several_goals_nothing_off_the_front_is_chosen():
    """Networks like the second best, which another setting beats in all that was searched for."""
    rows = [(0.8, 0.05, 0.5, 0.0, 2, 0.6), (0.7, 0.05, 0.5, 0.0, 2, 0.7)]
    trials = table(*rows)
    trials["pareto"] = undominated(trials)
    assert choose(eligible(trials, "pareto"), {}).row == 0
    assert choose(eligible(trials, "utility"), {}).row == 1
    none = table((0.9, 0.3, 0.9, 0.2, 0, None), (0.5, 0.2, 0.9, 0.1, 0, None))
    none["pareto"] = undominated(none)
    assert choose(eligible(none, "pareto"), {}).row == 1


def test_a_choice_says_who_decided_and_what_could_not_be_told_apart():
    looked = [(0.7, 0.06, 0.5, 0.0, 2, 0.61, 0.008), (0.8, 0.05, 0.5, 0.0, 2, 0.6, 0.008)]
    equal = choose(table(*looked), {"network_utility": {0: ALIKE, 1: moving(0.008)}})
    assert (equal.equal, equal.reached, equal.best) == (2, 0.6, 0.61)
    assert equal.why().startswith("chosen by networks' AUROC: 0.6, and the best has 0.61; of 2 settings")
    assert choose(table(*looked), {}).why() == "chosen by networks' AUROC: 0.61, the best"


def test_a_trial_s_process_needs_no_torch():
    """What trials import is what every worker waits for before its first."""
    said = "import sys, raydistill.stages.trial; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
