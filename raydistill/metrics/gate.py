"""Which numbers are held against which budgets: the checks that a verdict is made of."""

from collections.abc import Mapping

from raydistill.core.config import Budgets
from raydistill.metrics.patients import EXCESS
from raydistill.metrics.result import Check, Kind, MetricResult, insufficient

Metrics = Mapping[str, MetricResult]

LINKAGE = "prompt_linkage"
CALIBRATED = "membership_calibrated_auc"
ATTACKS = ("membership", "membership_calibrated")
"""How the metrics of both membership attacks begin: by the model's loss, and beside that of a shadow model."""

NO_SHADOW = insufficient("there is no shadow model: evaluate.shadow_share is 0", n=0, unit="area under the ROC curve")


def risk_checks(student: Metrics, budgets: Budgets) -> list[Check]:
    """Hold what an audit of the student's samples found against its budgets.

    Copies count twice: their share must be small with its whole interval, and if any are certain, however few, that
    fails; so do samples that certainly show somebody, patients who are certainly hit more often than chance hits
    people, and samples that certainly lead to people with the rare attributes of their prompts. No prompt may hold what
    the scrubber takes for a name, a date or an id. Samples that were asked for harder have the same budgets, where
    there are some, and the worst way of asking has that of the excess risk by itself.

    Args:
        student: the audit's metrics.
        budgets: the bounds.
    """
    prefixes = [prefix for prefix in ("", "attacked_") if f"{prefix}excess_risk" in student]
    limits = {f"{prefix}{name}": limit for prefix in prefixes for name, limit in _limits(budgets).items()}
    proven = {f"{prefix}{name}": 0.0 for prefix in prefixes for name in ("copied_excess", "identified_excess")}
    proven |= {f"{prefix}closer_to_train_excess": budgets.max_closer_to_train_share - 0.5 for prefix in prefixes}
    limits |= {"attacked_worst_excess_risk": budgets.max_excess_risk} if len(prefixes) > 1 else {}
    limits["prompt_marks"] = 0.0
    proven |= {f"{prefix}{EXCESS}": 0.0 for prefix in prefixes}
    # Where nothing rare was asked for there is nothing to link.
    proven |= {LINKAGE: 0.0} if LINKAGE in student and student[LINKAGE].value is not None else {}
    return against("student", student, "max", limits) + against("student", student, "unproven", proven)


def model_checks(student: Metrics, budgets: Budgets) -> list[Check]:
    """Hold what needs the student itself, or a classifier taught by its images, against its budgets.

    Both membership attacks have the same budget, and nothing is certified without that beside a shadow model. What
    they find of patients, or of a few members with hardly a false alarm, has a wide interval; it fails when it is
    proven.
    """
    limits = dict.fromkeys(("membership_auc", CALIBRATED), budgets.max_membership_auc)
    limits["utility_loss"] = budgets.max_utility_loss
    return [*against("student", {CALIBRATED: NO_SHADOW, **student}, "max", limits), *member_checks(student, budgets)]


def member_checks(student: Metrics, budgets: Budgets) -> list[Check]:
    """Hold what the membership attacks that were made find of patients, and of a few members, against its budgets."""
    of_few = {"patient_auc": budgets.max_membership_auc, "tpr_at_fpr_0.01": budgets.max_membership_tpr}
    few = {f"{attack}_{name}": limit for attack in ATTACKS for name, limit in of_few.items()}
    return against("student", student, "unproven", {name: limit for name, limit in few.items() if name in student})


def prompt_checks(student: Metrics, k: int) -> list[Check]:
    """Hold the prompts of what is released against the number of patients who must share them.

    Args:
        student: with `prompt_k`; prompts that nobody can read are too little evidence, and where none says anything
            of a train patient there is nothing to hold.
        k: of `ingest.prompts`.
    """
    told = "prompt_k" in student and student["prompt_k"].n > 0
    return against("student", student, "min", {"prompt_k": k}) if told else []


def selftest_checks(selftest: Metrics, budgets: Budgets) -> list[Check]:
    """Hold the filter's self-test against its budgets; a lower bound of 0 reports, and certifies nothing.

    Of the model's own copies most must be caught of all, and of those by themselves that another network recognises:
    the correlation that calls the others copies is one of the filter's own measures. The networks must agree with the
    structural measure that all of them share, without it, and on what the model made, which is harder.
    """
    copies, named = ("sensitivity", "sensitivity.generator", "sensitivity.generator_recognised"), "consistency_jaccard"
    at_least = dict.fromkeys(copies, budgets.min_sensitivity)
    agree = (named, f"{named}.identity", f"{named}.generator")
    at_least |= dict.fromkeys(agree, budgets.min_consistency_jaccard)
    return [
        *against("selftest", selftest, "min", {name: budget for name, budget in at_least.items() if budget}),
        *against("selftest", selftest, "max", {"false_flag_rate": budgets.max_false_flag_rate}),
    ]


def _limits(budgets: Budgets) -> dict[str, float]:
    return {
        "excess_risk": budgets.max_excess_risk,
        "leak_rate": budgets.max_leak_rate,
        "near_copy_excess": budgets.max_near_copy_excess,
        "copied_excess": budgets.max_copied_excess,
        "closer_to_train_share": budgets.max_closer_to_train_share,
    }


def against(group: str, metrics: Metrics, kind: Kind, limits: Mapping[str, float]) -> list[Check]:
    """Hold a group's metrics against their budgets, all of one kind."""
    return [Check.of(f"{group}.{name}", metrics[name], budget, kind) for name, budget in limits.items()]
