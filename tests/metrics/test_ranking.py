import numpy as np
import pytest
from scipy import stats

from raydistill.metrics.ranking import rank_correlation


def ranked(x, y):
    return rank_correlation(x, y, "tau")


@pytest.mark.parametrize("n", [5, 8, 12])
@pytest.mark.parametrize("tau", [0.0, 0.6, 0.85, 0.95])
def test_intervals_hold_the_truth(n, tau):
    """Of normal measures, whose tau is known (Kruskal 1958); Fisher's z held 0.95 of twelve in 70 of 100."""
    rho, held, tried = np.sin(tau * np.pi / 2), 0, 200
    for seed in range(tried):
        x, noise = np.random.default_rng(seed).normal(size=(2, n))
        low, high = ranked(x, rho * x + np.sqrt(1 - rho**2) * noise).interval
        held += low <= tau <= high
    assert held / tried >= 0.93


def test_it_is_kendalls_with_ties_and_turns_with_the_order():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 12), rng.integers(0, 5, 12)
    found, turned = ranked(x, y), ranked(x, -y)
    assert found.value == pytest.approx(stats.kendalltau(x, y).statistic)
    assert turned.interval == pytest.approx((-found.interval[1], -found.interval[0]))


def test_it_narrows_with_many_and_says_little_of_few_that_agree():
    x = np.arange(300.0)
    wide, narrow = (ranked(x[:n], x[:n] + np.random.default_rng(1).normal(size=n)) for n in (10, 300))
    assert np.ptp(narrow.interval) < 0.05 < np.ptp(wide.interval)
    same, turned = ranked(x[:6], x[:6]), ranked(x[:6], -x[:6])
    assert same.value == pytest.approx(1) == same.interval[1]
    assert same.interval[0] < 0
    assert turned.interval == (-1.0, -same.interval[0])


@pytest.mark.parametrize(("x", "y"), [(range(4), range(4)), ([1] * 8, range(8)), (range(8), [1] * 8)])
def test_too_few_or_all_alike_say_nothing(x, y):
    assert "5 that differ are needed" in ranked(list(x), list(y)).note
