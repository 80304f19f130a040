import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raydistill.metrics.result import Check, MetricResult, insufficient, judge, results_table


def result(value=0.1, interval=(0.05, 0.2), **extra):
    return MetricResult(value=value, interval=interval, n=10, unit="share", estimator="exact", **extra)


def check(interval, budget=0.5, kind="max", value=None):
    middle = sum(interval) / 2 if interval else None
    return Check(metric="risk", value=value or middle, interval=interval, budget=budget, kind=kind)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(bad):
    with pytest.raises(ValidationError):
        result(value=bad)
    with pytest.raises(ValidationError):
        result(interval=(0.0, bad))
    with pytest.raises(ValidationError):
        result(control=bad)


def test_missing_value_needs_a_reason_and_no_interval():
    with pytest.raises(ValidationError, match="note"):
        result(value=None, interval=None)
    with pytest.raises(ValidationError):
        result(value=None, note="insufficient: why")
    missing = insufficient("3 patients, 30 needed", n=3, unit="share")
    assert missing.value is None
    assert missing.note == "insufficient: 3 patients, 30 needed"


def test_results_are_frozen_ordered_and_survive_json():
    with pytest.raises(ValidationError):
        result(interval=(0.3, 0.2))
    one = result(control=0.02, note="a").with_note("b")
    assert one.note == "a; b"
    assert MetricResult.model_validate_json(one.model_dump_json()) == one
    with pytest.raises(ValidationError):
        one.value = 0.0


@pytest.mark.parametrize(
    ("interval", "kind", "outcome"),
    [
        ((0.1, 0.5), "max", "pass"),
        ((0.5, 0.6), "max", "insufficient_evidence"),
        ((0.51, 0.6), "max", "fail"),
        ((0.1, 0.49), "min", "fail"),
        ((0.1, 0.5), "min", "insufficient_evidence"),
        ((0.5, 0.6), "min", "pass"),
        (None, "max", "insufficient_evidence"),
    ],
)
def test_outcome_depends_on_the_whole_interval(interval, kind, outcome):
    assert check(interval, kind=kind).outcome == outcome


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1))
def test_max_and_min_mirror_each_other(low, width, budget):
    up = check((low, low + width), budget, "max", value=low)
    down = Check(metric="risk", value=-low, interval=(-low - width, -low), budget=-budget, kind="min")
    assert up.outcome == down.outcome


def test_judge_takes_the_worst_and_says_it_first():
    good, bad, unsure = check((0.0, 0.1)), check((0.8, 0.9)), check((0.4, 0.6))
    assert judge([good, good])[0] == "pass"
    assert judge([good, unsure])[0] == "insufficient_evidence"
    verdict, reasons = judge([good, unsure, bad])
    assert verdict == "fail"
    assert reasons[0] == "risk is 0.85 (95 % interval 0.8 to 0.9) and breaks the budget of at most 0.5."
    assert len(reasons) == 3


@pytest.mark.parametrize(
    ("interval", "said", "ending"),
    [
        ((0.61, 0.8), "fails its test of proof: that it is more than 0.6 is proven.", "fails its test of proof"),
        ((0.4, 0.8), "passes its test of proof: that it is more than 0.6 is not proven.", "passes its test of proof"),
        ((0.4, 0.6), "passes its test of proof: not even the upper end is more than 0.6.", "passes its test of proof"),
        (None, "without an interval; its test of proof (no proof of more than 0.6) can't be made.", "has no number"),
    ],
)
def test_a_test_of_proof_says_whether_too_much_is_proven(interval, said, ending):
    one = check(interval, 0.6, "unproven", value=0.7)
    assert one.reason.endswith(said)
    assert one.ending.startswith(ending)


def test_a_metric_with_a_budget_and_a_test_of_proof_doesn_t_contradict_itself():
    kept, unproven = (check((0.0, 0.007), *how).reason for how in ((0.01, "max"), (0.0, "unproven")))
    assert kept.endswith("and keeps the budget of at most 0.01.")
    assert unproven.endswith("and passes its test of proof: that it is more than 0 is not proven.")


@pytest.mark.parametrize("kind", ["max", "min", "unproven"])
@pytest.mark.parametrize("interval", [(0.1, 0.2), (0.4, 0.6), (0.7, 0.8), None])
def test_an_ending_holds_no_number(kind, interval):
    one = check(interval, kind=kind, value=0.5)
    assert not re.search(r"\d", one.ending)


def test_nothing_judged_is_never_a_pass():
    assert judge([])[0] == "insufficient_evidence"


def test_reason_of_a_missing_value_carries_its_note():
    missing = insufficient("3 patients, 30 needed", n=3, unit="share")
    sentence = Check.of("student.excess_risk", missing, 0.05, "max").reason
    assert "student.excess_risk" in sentence
    assert "30 needed" in sentence
    assert "at most 0.05" in sentence
    assert "without an interval" in Check.of("m", result(interval=None), 1.0, "max").reason


def test_results_as_a_table():
    table = results_table({"F": result(control=0.3), "M": insufficient("nobody", n=0, unit="share")})
    first, second = table.to_pylist()
    assert (first["name"], first["value"], first["low"], first["high"], first["control"]) == ("F", 0.1, 0.05, 0.2, 0.3)
    assert (second["value"], second["low"], second["note"]) == (None, None, "insufficient: nobody")
