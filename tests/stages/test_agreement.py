"""Probe and network: settings are drawn by chance from those tried."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy.stats import kendalltau

from raydistill.core.searching import TuneConfig
from raydistill.metrics.ranking import FEWEST
from raydistill.stages.agreement import drawn, rank_agreement


def table(probe, network):
    return pd.DataFrame({"utility": probe, "agreement_utility": network, "feasible": False})


def test_agreement_is_kendalls_and_needs_five_settings():
    probe = [0.5, 0.8, 0.7, 0.6, 0.9]
    agreeing = rank_agreement(table(probe, [0.1, 0.4, 0.3, 0.2, 0.5]), 0.95)
    assert agreeing.value == pytest.approx(1)
    assert agreeing.interval[0] < 0.5 < agreeing.interval[1] == pytest.approx(1)
    other = [0.4, 0.1, 0.5, 0.3, 0.2]
    assert rank_agreement(table(probe, other), 0.95).value == pytest.approx(kendalltau(probe, other).statistic)
    few = rank_agreement(table(probe, [0.1, 0.4, 0.3, np.nan, 0.2]), 0.95)
    assert few.value is None
    assert "5 that differ are needed" in few.note
    assert rank_agreement(table(probe, [0.5] * 5), 0.95).value is None


def test_what_keeps_the_same_is_drawn_once_and_bounds_don_t_matter():
    trials = table([0.1 * row for row in range(9)] + [np.nan], None)
    rows = drawn(trials, lambda row: np.arange(9) >= row // 2 * 2, 20, 0)
    assert rows == [0, 2, 4, 6, 8]
    assert len(drawn(trials, lambda row: np.arange(9) >= row, FEWEST, 0)) == FEWEST
    assert drawn(trials, lambda row: np.arange(9) >= row // 3, 20, 0) == []
    assert drawn(trials, lambda row: np.arange(9) >= row, 0, 0) == []
    times = np.bincount(np.concatenate([drawn(trials, lambda row: np.arange(9) >= row, 5, seed) for seed in range(90)]))
    # Each of nine equally often, 50 times of 90.
    assert times == pytest.approx(np.full(9, 50), abs=15)


def test_fewer_than_can_be_compared_are_refused():
    assert TuneConfig(agreement=0).agreement == 0
    with pytest.raises(ValidationError, match="no order can be compared"):
        TuneConfig(agreement=4)
