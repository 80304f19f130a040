"""The luck of training: what is known of it, by whom, and whether intervals with it hold the truth."""

import numpy as np
import pytest
from scipy import stats

from raydistill.metrics.luck import Luck, pooled, reach, together

TRAININGS = {"chosen": 6, "fixed": 3, "percentile": 3, "none": 3}
"""Classifiers of each rule by default; of the search's setting its second trainings too."""


def test_what_is_pooled_is_the_variance_within_groups():
    assert pooled([[1.0, 3.0], [5.0, 5.0, 8.0], [9.0]]) == Luck(pytest.approx(8 / 3), 3)
    assert pooled([[1.0]]) == Luck(0.0, 0)


def test_one_estimate_counts_once_and_two_are_known_better_than_the_worse():
    one, other = Luck(0.04, 2), Luck(0.01, 20)
    assert together([(one, 0.5), (one, 0.25)]) == {one: 0.75}
    assert reach({one: 0.75}, 0.95) == pytest.approx(stats.t.ppf(0.975, 2) * np.sqrt(0.03))
    # Welch and Satterthwaite.
    errors = 0.04 / 3, 0.01 / 4
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / 2 + errors[1] ** 2 / 20)
    assert reach({one: 1 / 3, other: 1 / 4}, 0.95) == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(sum(errors)))
    assert 2 < freedom < 22
    assert reach({one: 1 / 3, Luck(0.0, 0): 1 / 4}, 0.95) == float("inf")
    assert reach({Luck(0.0, 5): 1.0}, 0.95) == 0.0


def covered(spreads, drawn, tried=1000):
    """Say how often intervals of the chosen setting less a rule hold 0: with pooled luck, and with that of its own.

    Args:
        spreads: of the networks of each rule that keeps the same samples each time.
        drawn: of those of the random drop, which doesn't.
        tried: comparisons.
    """
    rng, hits = np.random.default_rng(0), {"fixed": 0, "none": 0, "drop, pooled": 0, "drop, its own": 0}
    for _ in range(tried):
        areas = {rule: spread * rng.normal(size=TRAININGS[rule]) for rule, spread in spreads.items()}
        drop, shared = drawn * rng.normal(size=3), pooled(areas.values())
        # Only the first three of the chosen setting's are compared; the others are its second trainings.
        gaps = {rule: areas["chosen"][:3].mean() - areas[rule].mean() for rule in ("fixed", "none")}
        gap = areas["chosen"][:3].mean() - drop.mean()
        for rule, one in gaps.items():
            hits[rule] += abs(one) <= reach({shared: 2 / 3}, 0.95)
        hits["drop, pooled"] += abs(gap) <= reach({pooled([*areas.values(), drop]): 2 / 3}, 0.95)
        hits["drop, its own"] += abs(gap) <= reach(together([(shared, 1 / 3), (pooled([drop]), 1 / 3)]), 0.95)
    return {name: count / tried for name, count in hits.items()}


def test_a_random_drop_has_a_luck_of_its_own():
    """Which samples it leaves out is drawn anew each time: its variance pooled with the others' is too small."""
    held = covered(dict.fromkeys(TRAININGS, 1.0), drawn=3.0)
    assert held["drop, pooled"] < 0.85
    assert held["drop, its own"] >= 0.92


def test_the_luck_of_the_others_may_be_pooled_while_it_is_about_alike():
    """Of few trainings each: where one rule's vary half as much again, a little too much is said of it, not of others."""
    equal, unequal = (covered(dict(zip(TRAININGS, own, strict=True)), 1.0) for own in ([1.0] * 4, [1.0, 1.5, 1.0, 0.7]))
    assert min(equal.values()) >= 0.93
    assert unequal["fixed"] >= 0.9
    assert unequal["none"] >= 0.95
