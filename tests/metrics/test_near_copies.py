"""Near-copies beyond chance, and copies that are certain."""

import numpy as np
import pytest

from raydistill.matching.calibration import certain_threshold
from raydistill.metrics.near_copies import certain_rates, near_copy_rates


def test_near_copies_at_zero_show_the_rule_of_three():
    result = near_copy_rates(np.zeros(300), np.arange(300), np.zeros(20), np.arange(20), 0.5)["near_copy_rate"]
    assert result.value == 0.0
    assert result.control == 0.0
    assert "rule of three, rate below 0.01" in result.note
    assert result.interval[1] == pytest.approx(1 - 0.05 ** (1 / 300), rel=1e-6)


def test_near_copies_beyond_chance_are_those_that_strangers_do_not_have():
    found = near_copy_rates([1.0, 1.0, 0.0, 0.0], list("abcd"), [1.0, 0.0, 0.0, 0.0], list("wxyz"), 0.5)
    assert found["near_copy_rate"].value == 0.5
    assert found["near_copy_excess"].value == pytest.approx((0.5 - 0.25) / 0.75)


@pytest.mark.parametrize("rate", [0.002, 0.01, 0.05, 0.2])
def test_the_interval_holds_the_share_of_copies_however_few_pictures_they_are_of(rate):
    rng, held, trials = np.random.default_rng(5), 0, 300
    popular = 1 / np.arange(1, 41)
    for _ in range(trials):
        copied, whose = rng.random(600) < rate, rng.choice(40, 600, p=popular / popular.sum())
        low, high = near_copy_rates(copied, whose, [0.0], ["x"], 0.5)["near_copy_rate"].interval
        held += low <= rate <= high
    assert held >= 0.94 * trials


def test_nothing_near_is_the_surer_the_more_samples_however_alike_their_nearest():
    for n in (300, 1200):
        (_, high) = near_copy_rates(np.zeros(n), np.arange(n) % 3, [0.0], ["x"], 0.5)["near_copy_rate"].interval
        assert high == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-6)


def test_copies_by_hand():
    found = certain_rates("copied", [0.9, 0.9, 0.1, 0.9], [0.9, 0.1, 0.1, 0.1], 0.5, (200, 100))
    assert found["copied_rate"].value == 0.75
    assert found["copied_rate"].control == pytest.approx(2 * 0.25)
    assert found["copied_excess"].value == pytest.approx(0.75 - 2 * 0.25)
    none = certain_rates("copied", np.zeros(1000), np.zeros(1000), 0.5, (200, 100))
    assert "rule of three, rate below 0.003" in none["copied_rate"].note
    assert none["copied_excess"].interval[1] == pytest.approx(1 - 0.025 ** (1 / 1000), rel=1e-6)
    single = certain_rates("copied", np.arange(1000) == 0, np.zeros(1000), 0.5, (200, 100))
    assert single["copied_excess"].interval[0] > 0
    assert certain_rates("copied", [], [], 0.5, (1, 1))["copied_rate"].value is None
    assert certain_rates("copied", [0.1], [0.1], 0.5, (1, 0))["copied_excess"].value is None


def galleries(rng, people):
    """Equally populated galleries of uneven people: some look average, some have many pictures. By rows; and whose."""
    found = []
    for number in people:
        images = np.repeat(np.arange(number), 1 + rng.poisson(np.exp(rng.normal(0, 1, number))))
        centres = rng.normal(size=(number, DEGREES)) * np.exp(rng.normal(0, 0.5, (number, 1)))
        found.append((centres[images] + 0.3 * rng.normal(size=(len(images), DEGREES)), images))
    return found


def nearest(queries, gallery):
    """A similarity of 1 for a copy that falls with the squared distance, as correlations do."""
    squared = (queries**2).sum(1)[:, None] + (gallery**2).sum(1) - 2 * queries @ gallery.T
    return 1 - squared.min(axis=1) / 100


DEGREES = 12
"""Degrees of freedom of a picture: fewer than a radiograph at any resolution has."""


@pytest.mark.parametrize(
    ("samples", "people"),
    [(500, (140, 66, 53)), (5000, (140, 66, 53)), (50_000, (140, 66, 53)), (1200, (33, 15, 12))],
)
def test_chance_proves_no_copies_however_uneven_galleries_are_and_a_hundredth_is_always_found(samples, people):
    rng, wrong, missed = np.random.default_rng(1), [], []
    for _ in range(60):
        (train, _), (unseen, _), (strangers, whose) = galleries(rng, people)
        threshold = certain_threshold(nearest(strangers, train), whose, samples)
        made = rng.normal(size=(samples, DEGREES)) * np.exp(rng.normal(0, 0.5, (samples, 1)))
        sizes = len(train), len(unseen)

        def excess(made, train=train, unseen=unseen, threshold=threshold, sizes=sizes):
            scores = (nearest(made, side) for side in (train, unseen))
            return certain_rates("copied", *scores, threshold, sizes)["copied_excess"].interval

        wrong.append(excess(made)[0] > 0)
        copied = made.copy()
        copied[: samples // 100] = train[rng.integers(len(train), size=samples // 100)]
        low, high = excess(copied)
        missed.append(low <= 0 or not low <= 0.01 <= high)
    # With so few degrees of freedom, so many samples, and so few strangers.
    assert np.mean(wrong) <= 0.05
    assert np.mean(missed) <= 0.05
