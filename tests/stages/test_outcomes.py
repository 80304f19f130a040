"""Of a search's trials as a whole: how many differ, and which bounds are in the way."""

import pandas as pd

from raydistill.stages.outcomes import broken, broken_in_words, different
from raydistill.stages.tune import _sameness

NAN = float("nan")


def trials(**columns):
    return pd.DataFrame({"kept_share": 0.9, "utility": NAN, "risk_high": 0.1, "near_copies_high": 0.1} | columns)


def test_settings_that_come_to_the_same_count_once_also_where_nothing_could_be_taught():
    table = trials(target_fpir=[0.01, 0.02, 0.03, 0.04], kept_share=[0.9, 0.9, 0.9, 0.8])
    assert different(table) == 2
    assert _sameness(table) == ["4 settings were tried, which come to 2 different outcomes"]
    (note,) = _sameness(trials(target_fpir=[0.01, 0.02]))
    assert note == "2 settings were tried, which come to one and the same outcome"
    assert _sameness(trials(kept_share=[0.9, 0.8])) == []


def test_the_bound_that_most_settings_break_comes_first():
    table = trials(breaks_risk=[0.1, -0.1, 0.0], breaks_near_copies=[0.2, 0.1, -0.1], breaks_taught=[0.0] * 3)
    assert broken(table) == {"near_copies": 2, "risk": 1}
    said = broken_in_words(broken(table), len(table))
    assert said.startswith("2 of 3 settings come to too many near-copies (tune.max_near_copy_rate), 1 to too many")
    assert broken(trials(kept_share=[0.1])) == {}
