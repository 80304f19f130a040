"""Which numbers are held against which budgets: the checks that a verdict is made of."""

from collections.abc import Mapping

from raydistill.core.config import Budgets, EvidenceConfig
from raydistill.metrics.patients import EXCESS
from raydistill.metrics.result import Check, Kind, MetricResult, insufficient

Metrics = Mapping[str, MetricResult]

CALIBRATED = "membership_calibrated_auc"
SMALLEST_PUBLIC_GROUP = 11
"""Images or patients; of fewer nothing is told outside the house.
Source: the cell size suppression policy of the US Centers for Medicare and Medicaid Services."""

MEASURED_ON = ("train", "calibration", "evaluation")
"""Roles without which a certificate can say nothing; probes are read by few metrics."""

LEAST_K = 5
"""Patients who must share a prompt, at least: cells of fewer than five are the usual ones to suppress in health data.
Source: El Emam and Dankar 2008, Protecting privacy using k-anonymity, JAMIA 15:627."""

BLIND = "The auditor may be too blind to judge: "
CONTROLS = {
    "control_rate": "The auditor takes for a train patient",
    "near_copy_control_rate": "The structural measure takes for a copy",
}
"""Real people nobody trained on are the control; who is known to the gallery can't be."""

NO_SHADOW = insufficient("there is no shadow model: evaluate.shadow_share is 0", n=0, unit="area under the ROC curve")


def risk_checks(student: Metrics, budgets: Budgets) -> list[Check]:
    """Hold what an audit of the student's samples found against its budgets.

    Copies count twice: their share must be small with its whole interval, and if any are certain, however few, that
    fails; so do samples that certainly show somebody, and patients who are certainly hit more often than chance hits
    people. No prompt may hold what the scrubber takes for a name, a date or an id. Samples that were asked for harder
    have the same budgets, where there are some, and the worst way of asking has that of the excess risk by itself.

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
    proven |= {EXCESS: 0.0}
    return _against("student", student, "max", limits) + _against("student", student, "unproven", proven)


def model_checks(student: Metrics, budgets: Budgets) -> list[Check]:
    """Hold what needs the student itself, or a classifier taught by its images, against its budgets.

    Both membership attacks have the same budget, and nothing is certified without that beside a shadow model. What
    they find of patients, or of a few members with hardly a false alarm, has a wide interval; it fails when it is
    proven.
    """
    limits = dict.fromkeys(("membership_auc", CALIBRATED), budgets.max_membership_auc)
    limits["utility_loss"] = budgets.max_utility_loss
    few = {f"membership{way}_{name}": limit for way in ("", "_calibrated") for name, limit in _of_few(budgets).items()}
    attacked = {name: limit for name, limit in few.items() if name in student}
    return [
        *_against("student", {CALIBRATED: NO_SHADOW, **student}, "max", limits),
        *_against("student", student, "unproven", attacked),
    ]


def prompt_checks(student: Metrics, k: int) -> list[Check]:
    """Hold the prompts of what is released against the number of patients who must share them.

    Args:
        student: with `prompt_k`; without a value where no prompt says anything of a train patient.
        k: of `ingest.prompts`.
    """
    known = "prompt_k" in student and student["prompt_k"].value is not None
    return _against("student", student, "min", {"prompt_k": k}) if known else []


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
    sight = {
        "auditor_tpir": budgets.min_auditor_tpir,
        "auditor_sensitivity": budgets.min_auditor_sensitivity,
        "certain_sensitivity": budgets.min_certain_sensitivity,
    }
    sees = _against("student", student, "min", {name: limit for name, limit in sight.items() if limit})
    found += [f"{BLIND}{one.reason}" for one in sees if one.outcome != "pass"]
    for name, what in CONTROLS.items():
        control = student[name]
        if control.interval and control.baseline is not None and control.interval[0] > control.baseline:
            found.append(
                f"{what} {control.value:.3g} of the evaluation images, which calibration people say happens to "
                f"{control.baseline:.3g} at most: some may be train patients under other ids, or the roles differ."
            )
    return found


def short_of_people(cohort: Mapping[str, Mapping[str, int]]) -> list[str]:
    """List the roles of so few that nothing measured on them may be told: a certificate would be empty.

    Args:
        cohort: `images` and `patients` by role.
    """
    few = {role: min(cohort[role].values()) for role in MEASURED_ON if role in cohort}
    said = "Of {} {} images or patients no certificate can tell; {} are needed."
    return [said.format(n, role, SMALLEST_PUBLIC_GROUP) for role, n in few.items() if n < SMALLEST_PUBLIC_GROUP]


def short_of_method(evidence: EvidenceConfig, k: int) -> list[str]:
    """List the settings with which numbers would be measured more leniently than any claim can stand on.

    Args:
        evidence: how the evidence was made.
        k: of `ingest.prompts`, the bound that the prompts are held against.
    """
    how, test, attack = evidence.evaluate, evidence.selftest, evidence.attack
    harder = sum(way.num_samples for way in attack.ways(evidence.student_samples).values())
    asked = evidence.student_samples.num_samples
    floors = {
        "evaluate.confidence": (how.confidence, 0.95),
        "evaluate.bootstrap": (how.bootstrap, 200),
        "evaluate.membership_timesteps": (len(set(how.membership_timesteps)), 3),
        "evaluate.membership_timesteps, latest": (max(how.membership_timesteps), 0.4),
        "evaluate.shadow_share": (how.shadow_share, 0.25),
        "selftest.num_images": (test.num_images, 32),
        "selftest.strengths": (len(set(test.strengths)), 4),
        "selftest.strengths, strongest": (max(test.strengths), 0.4),
        "attack.guidance_scales": (len(set(attack.guidance_scales)), 2),
        "attack.guidance_scales, strongest": (max(attack.guidance_scales), 3.0),
        "attack.num_samples in all ways": (harder, asked),
        "ingest.prompts.k": (k, LEAST_K),
    }
    ceilings = {
        "evaluate.membership_timesteps, earliest": (min(how.membership_timesteps), 0.2),
        "selftest.strengths, weakest": (min(test.strengths), 0.2),
        "attack.few_steps": (attack.few_steps, 10),
    }
    said = "The evidence is too lenient for any claim: {} is {:g}, and {:g} is the {}."
    return [said.format(name, *pair, "least") for name, pair in floors.items() if pair[0] < pair[1]] + [
        said.format(name, *pair, "most") for name, pair in ceilings.items() if pair[0] > pair[1]
    ]


def _of_few(budgets: Budgets) -> dict[str, float]:
    return {"patient_auc": budgets.max_membership_auc, "tpr_at_fpr_0.01": budgets.max_membership_tpr}


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
