"""What settings explain is told, and what they don't isn't."""

import numpy as np
import pandas as pd
import pytest

from raydistill.metrics.importances import FEWEST, explained, importances


def trials(count, noise, seed=0):
    rng = np.random.default_rng(seed)
    settings = pd.DataFrame({"a": np.exp(rng.uniform(-4, 0, count)), "b": rng.uniform(size=count), "c": 1.0})
    return settings, settings["b"] + 0.2 * np.log(settings["a"]) + noise * rng.normal(size=count)


def test_shares_add_up_to_what_the_settings_foretell():
    settings, objective = trials(64, 0.0)
    shares = importances(settings, objective, {"a"}, seed=1)
    assert set(shares) == {"a", "b"}
    assert sum(shares.values()) == pytest.approx(explained(settings[["a", "b"]], objective, 1))
    assert 0.5 < sum(shares.values()) < 1.0
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_of_noise_alone_next_to_nothing_is_said():
    sums = []
    for seed in range(20):
        settings, _ = trials(32, 0.0, seed)
        noise = pd.Series(np.random.default_rng(seed + 100).normal(size=32))
        sums.append(sum(importances(settings, noise, {"a"}, seed).values()))
    assert np.mean([total == 0.0 for total in sums]) >= 0.7
    assert max(sums) < 0.4


def test_of_few_trials_and_of_equal_ones_nothing_is_said():
    settings, objective = trials(FEWEST - 1, 0.0)
    assert importances(settings, objective, {"a"}, 0) == {}
    settings, objective = trials(32, 0.0)
    assert importances(settings, objective * 0, {"a"}, 0) == {}
    assert importances(settings[["c"]], objective, set(), 0) == {}
