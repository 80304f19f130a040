"""Near-copies beyond chance, and copies that are certain."""

import numpy as np
import pytest

from raydistill.metrics.near_copies import copied_rates, near_copy_rates


def test_near_copies_at_zero_show_the_rule_of_three():
    result = near_copy_rates(np.zeros(300), np.arange(300), np.zeros(20), np.arange(20), 0.5)["near_copy_rate"]
    assert result.value == 0.0
    assert result.control == 0.0
    assert "rule of three, rate below 0.01" in result.note
    assert result.interval[1] == pytest.approx(1 - 0.025 ** (1 / 300), rel=1e-6)


def test_near_copies_beyond_chance_are_those_that_strangers_do_not_have():
    found = near_copy_rates([1.0, 1.0, 0.0, 0.0], list("abcd"), [1.0, 0.0, 0.0, 0.0], list("wxyz"), 0.5)
    assert found["near_copy_rate"].value == 0.5
    assert found["near_copy_excess"].value == pytest.approx((0.5 - 0.25) / 0.75)


def test_copies_by_hand():
    found = copied_rates([0.9, 0.9, 0.1, 0.9], [0.9, 0.1, 0.1, 0.1], 0.5, (200, 100))
    assert found["copied_rate"].value == 0.75
    assert found["copied_rate"].control == pytest.approx(2 * 0.25)
    assert found["copied_excess"].value == pytest.approx(0.75 - 2 * 0.25)
    none = copied_rates(np.zeros(1000), np.zeros(1000), 0.5, (200, 100))
    assert "rule of three, rate below 0.003" in none["copied_rate"].note
    assert none["copied_excess"].interval[1] == pytest.approx(1 - 0.025 ** (1 / 1000), rel=1e-6)
    assert copied_rates([], [], 0.5, (1, 1))["copied_rate"].value is None
    assert copied_rates([0.1], [0.1], 0.5, (1, 0))["copied_excess"].value is None


def test_chance_alone_proves_copies_seldom_and_a_hundredth_of_copies_always():
    """Per gallery image a stranger reaches the threshold once in a million; the gallery is twice the unseen one."""
    rng, sizes, wrong, missed = np.random.default_rng(0), (600, 300), [], []
    for _ in range(400):
        threshold = 1 - (1 / 1_000_000)
        ours, theirs = (rng.uniform(size=2000) < 1 - threshold**size for size in sizes)
        wrong.append(copied_rates(ours, theirs, 0.5, sizes)["copied_excess"].interval[0] > 0)
        ours[:20] = True
        low, high = copied_rates(ours, theirs, 0.5, sizes)["copied_excess"].interval
        missed.append(low <= 0 or not low <= 0.01 <= high)
    assert np.mean(wrong) <= 0.025
    assert np.mean(missed) <= 0.05
