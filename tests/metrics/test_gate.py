"""Budgets against numbers: what passes, what fails, and that a proven copy fails however rare."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.config import Budgets
from raydistill.metrics.gate import model_checks, risk_checks, selftest_checks
from raydistill.metrics.result import MetricResult, insufficient, judge
from raydistill.metrics.shortfalls import looser_budgets, short_of_evidence

BUDGETS = Budgets()


def result(value, low, high):
    return MetricResult(value=value, interval=(low, high), n=100, unit="share", estimator="by hand")


def student(**changed):
    good = {
        "excess_risk": (0.0, -0.01, 0.02),
        "leak_rate": (0.0, -0.02, 0.03),
        "near_copy_excess": (0.0, -0.01, 0.01),
        "copied_excess": (0.0, -0.001, 0.003),
        "identified_excess": (0.0, -0.002, 0.002),
        "closer_to_train_share": (0.5, 0.46, 0.54),
        "closer_to_train_excess": (0.0, -0.1, 0.1),
        "patients_hit_excess": (0.0, -0.03, 0.03),
        "auditor_tpir": (0.6, 0.5, 0.7),
        "auditor_sensitivity": (0.95, 0.9, 0.98),
        "certain_sensitivity": (0.8, 0.7, 0.9),
        "prompt_marks": (0.0, 0.0, 0.0),
        "control_rate": (0.06, 0.03, 0.1),
        "near_copy_control_rate": (0.01, 0.0, 0.03),
    }
    return {name: result(*values) for name, values in (good | changed).items()}


@given(name=st.sampled_from(list(Budgets.model_fields)), limit=st.floats(0, 1))
def test_a_budget_is_named_exactly_where_it_allows_more_than_raydistill_s_own(name, limit):
    own = getattr(BUDGETS, name)
    limit = limit if own < 1 else 1 + round(2 * own * limit)
    looser = limit > own if name.startswith("max_") else limit < own
    found = looser_budgets(Budgets(**{name: limit}))
    assert [(one.name, one.limit, one.own) for one in found] == [(name, limit, own)] * looser
    assert all(0 < one.slack <= 1 for one in found)


def test_the_loosest_budget_is_named_first():
    set_so = {
        "max_excess_risk": 0.99,
        "max_membership_auc": 0.7,
        "min_evaluation_patients": 10,
        "min_sensitivity": 0.89,
    }
    names = [one.name for one in looser_budgets(Budgets(**set_so))]
    assert names == ["max_excess_risk", "min_evaluation_patients", "max_membership_auc", "min_sensitivity"]


def test_what_keeps_every_budget_passes():
    verdict, reasons = judge(risk_checks(student(), BUDGETS))
    assert verdict == "pass"
    assert any("that it is more than 0 is not proven" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("copied", "verdict"),
    [
        ((0.004, 0.001, 0.009), "fail"),  # few, and certain
        ((0.004, -0.001, 0.012), "insufficient_evidence"),  # perhaps none, perhaps too many
        ((0.003, 0.0, 0.009), "pass"),
    ],
)
def test_a_proven_copy_fails_however_few_there_are(copied, verdict):
    found, reasons = judge(risk_checks(student(copied_excess=copied), BUDGETS))
    assert found == verdict
    assert verdict == "pass" or "student.copied_excess" in reasons[0]


def test_a_blind_auditor_and_few_people_are_short_of_evidence():
    assert short_of_evidence(student(), 100, BUDGETS) == []
    blind, few = short_of_evidence(student(auditor_tpir=(0.2, 0.1, 0.3)), 29, BUDGETS)[::-1]
    assert "too blind" in blind
    assert "29 evaluation patients" in few


def test_a_self_test_that_was_not_made_is_no_pass():
    names = ("sensitivity", "sensitivity.generator", "sensitivity.generator_recognised", "false_flag_rate")
    names += tuple(f"consistency_jaccard{part}" for part in ("", ".identity", ".generator"))
    nothing = dict.fromkeys(names, insufficient("nothing was planted", n=0, unit="share"))
    assert judge(selftest_checks(nothing, BUDGETS))[0] == "insufficient_evidence"


def test_what_a_weak_auditor_overlooks_is_counted_too():
    """A tenth leaks; an auditor that sees a quarter of it finds an excess within its budget."""
    weak = student(excess_risk=(0.023, 0.003, 0.042), leak_rate=(0.1, 0.015, 0.183))
    verdict, reasons = judge(risk_checks(weak, BUDGETS))
    assert verdict == "insufficient_evidence"
    assert "student.leak_rate" in reasons[0]


def test_without_a_shadow_model_nothing_is_certified():
    plain = {"membership_auc": result(0.5, 0.45, 0.55), "utility_loss": result(0.0, -0.02, 0.02)}
    verdict, reasons = judge(model_checks(plain, BUDGETS))
    assert verdict == "insufficient_evidence"
    assert "evaluate.shadow_share is 0" in reasons[0]
    assert judge(model_checks(plain | {"membership_calibrated_auc": result(0.5, 0.45, 0.55)}, BUDGETS))[0] == "pass"
