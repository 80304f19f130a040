"""Which numbers are held against which budgets: the checks that a verdict is made of."""

from collections.abc import Mapping

from raydistill.core.config import Budgets
from raydistill.metrics.result import Check, Kind, MetricResult, insufficient

Metrics = Mapping[str, MetricResult]

CALIBRATED = "membership_calibrated_auc"
NO_SHADOW = insufficient("there is no shadow model: evaluate.shadow_share is 0", n=0, unit="area under the ROC curve")


def risk_checks(student: Metrics, budgets: Budgets) -> list[Check]:
    """Hold what an audit of the student's samples found against its budgets.

    Copies count twice: their share must be small with its whole interval, and if any are certain, however few, that
    fails. Samples that were asked for harder have the same budgets, where there are some, and no way of asking may
    certainly break that of the excess risk.

    Args:
        student: the audit's metrics.
        budgets: the bounds.
    """
    prefixes = [prefix for prefix in ("", "attacked_") if f"{prefix}excess_risk" in student]
    limits = {f"{prefix}{name}": limit for prefix in prefixes for name, limit in _limits(budgets).items()}
    proven = {f"{prefix}copied_excess": 0.0 for prefix in prefixes}
    proven |= {f"{prefix}closer_to_train_excess": budgets.max_closer_to_train_share - 0.5 for prefix in prefixes}
    proven |= {"attacked_worst_excess_risk": budgets.max_excess_risk} if len(prefixes) > 1 else {}
    return _against("student", student, "max", limits) + _against("student", student, "unproven", proven)


def model_checks(student: Metrics, budgets: Budgets) -> list[Check]:
    """Hold what needs the student itself, or a classifier taught by its images, against its budgets.

    Both membership attacks have the same budget, and nothing is certified without that beside a shadow model.
    """
    limits = dict.fromkeys(("membership_auc", CALIBRATED), budgets.max_membership_auc)
    limits["utility_loss"] = budgets.max_utility_loss
    return _against("student", {CALIBRATED: NO_SHADOW, **student}, "max", limits)


def selftest_checks(selftest: Metrics, budgets: Budgets) -> list[Check]:
    """Hold the filter's self-test against its budgets; a lower bound of 0 reports and doesn't judge."""
    at_least = {
        "sensitivity": budgets.min_sensitivity,
        "sensitivity.generator": budgets.min_sensitivity,
        "consistency_jaccard": budgets.min_consistency_jaccard,
    }
    return [
        *_against("selftest", selftest, "min", {name: budget for name, budget in at_least.items() if budget}),
        *_against("selftest", selftest, "max", {"false_flag_rate": budgets.max_false_flag_rate}),
    ]


def short_of_evidence(student: Metrics, evaluation_patients: int, budgets: Budgets) -> list[str]:
    """List what no claim can be made without, however good the numbers: people to compare with, an auditor that sees.

    Args:
        student: the audit's metrics.
        evaluation_patients: people nobody trained on.
        budgets: the bounds.
    """
    found, needed = [], budgets.min_evaluation_patients
    if evaluation_patients < needed:
        found.append(f"{evaluation_patients} evaluation patients are too few for any claim; {needed} are needed.")
    sees = _against("student", student, "min", {"auditor_tpir": budgets.min_auditor_tpir})[0]
    if budgets.min_auditor_tpir and sees.outcome != "pass":
        found.append(f"The auditor may be too blind to judge: {sees.reason}")
    return found


def _limits(budgets: Budgets) -> dict[str, float]:
    return {
        "excess_risk": budgets.max_excess_risk,
        "leak_rate": budgets.max_leak_rate,
        "near_copy_excess": budgets.max_near_copy_excess,
        "copied_excess": budgets.max_copied_excess,
        "closer_to_train_share": budgets.max_closer_to_train_share,
    }


def _against(group: str, metrics: Metrics, kind: Kind, limits: Mapping[str, float]) -> list[Check]:
    return [Check.of(f"{group}.{name}", metrics[name], budget, kind) for name, budget in limits.items()]
