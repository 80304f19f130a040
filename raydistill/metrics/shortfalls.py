"""What no claim can be made without, however good the numbers: people, an auditor that sees, a strict method."""

from collections.abc import Mapping
from dataclasses import dataclass

from raydistill.core.config import Budgets, EvidenceConfig
from raydistill.core.generation import ATTACK_SHARE
from raydistill.metrics.gate import Metrics, against
from raydistill.metrics.result import insufficient

SMALLEST_PUBLIC_GROUP = 11
"""Images or patients; of fewer nothing is told outside the house.
Source: the cell size suppression policy of the US Centers for Medicare and Medicaid Services."""

MEASURED_ON = ("train", "calibration", "evaluation")
"""Roles without which a certificate can say nothing; probes are read by few metrics."""

LEAST_K = 5
"""Patients who must share a prompt, at least: cells of fewer than five are the usual ones to suppress in health data.
Source: El Emam and Dankar 2008, Protecting privacy using k-anonymity, JAMIA 15:627."""

MADE, NOTHING = "auditor_sensitivity.generator", insufficient("nothing was planted", n=0, unit="share")
"""What of the model's own copies of train images the audit finds."""

BLIND = "The auditor may be too blind to judge: "
CONTROLS = {
    "control_rate": "The auditor takes for a train patient",
    "near_copy_control_rate": "The structural measure takes for a copy",
}
"""Real people nobody trained on are the control; who is known to the gallery can't be."""


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
    if student.get(MADE, NOTHING).n:
        # Of a model that learned nothing there are no copies to be seen.
        sight[MADE] = budgets.min_auditor_sensitivity
    sees = against("student", student, "min", {name: limit for name, limit in sight.items() if limit})
    found += [f"{BLIND}{one.reason}" for one in sees if one.outcome != "pass"]
    for name, what in CONTROLS.items():
        control = student[name]
        if control.interval and control.baseline is not None and control.interval[0] > control.baseline:
            found.append(
                f"{what} {control.value:.3g} of the evaluation images, which calibration people say happens to "
                f"{control.baseline:.3g} at most: some may be train patients under other ids, or the roles differ."
            )
    return found


def short_of_budgets(budgets: Budgets) -> list[str]:
    """List the budgets that everything keeps: with one of those a run reports, and certifies nothing.

    That a release may be of no use is the releaser's own affair, and allowed.

    Args:
        budgets: the bounds.
    """
    idle = [name for name, limit in budgets if name.startswith("min_") and not limit]
    idle += [name for name, limit in budgets if name.startswith("max_") and limit >= 1 and name != "max_utility_loss"]
    return [f"release.budgets.{name} is {getattr(budgets, name):g}, so it judges nothing." for name in idle]


@dataclass(frozen=True)
class Looser:
    """A budget that allows more than raydistill's own.

    Args:
        name: of the setting in `release.budgets`.
        limit: as it is set.
        own: what it is by default.
    """

    name: str
    limit: float
    own: float

    @property
    def slack(self) -> float:
        """How far it lies from raydistill's own towards what judges nothing: at most 1, and 0 or less if no looser."""
        return (self.limit - self.own) / (float(self.name.startswith("max_")) - self.own)

    @property
    def sentence(self) -> str:
        """Say it with both numbers."""
        return f"release.budgets.{self.name} is {self.limit:g}, looser than raydistill's own {self.own:g}."


def looser_budgets(budgets: Budgets) -> list[Looser]:
    """List the budgets that allow more than raydistill's own, the loosest first.

    They are the custodian's to set and refuse nothing, but nobody shall read a verdict without them.

    Args:
        budgets: the bounds.
    """
    held = [Looser(name, limit, own) for (name, limit), (_, own) in zip(budgets, Budgets(), strict=True)]
    return sorted((one for one in held if one.slack > 0), key=lambda one: -one.slack)


def short_of_people(cohort: Mapping[str, Mapping[str, int]]) -> list[str]:
    """List the roles of so few that nothing measured on them may be told: a certificate would be empty.

    Args:
        cohort: `images` and `patients` by role.
    """
    few = {role: min(cohort[role].values()) for role in MEASURED_ON if role in cohort}
    said = "Of {} {} images or patients no certificate can tell; {} are needed."
    return [said.format(n, role, SMALLEST_PUBLIC_GROUP) for role, n in few.items() if n < SMALLEST_PUBLIC_GROUP]


def short_of_utility(real: Metrics, budgets: Budgets) -> list[str]:
    """Say where findings can't be learned from real images either: then that nothing is lost says nothing.

    A comparison that finds no loss must have been able to find one (assay sensitivity, ICH E10, section 1.5): what
    was learned from real images must be more than chance even after the whole loss that is allowed. Without an
    interval the loss has none either; a budget that allows to lose all makes no claim.

    Args:
        real: metrics of the set of real images.
        budgets: the bounds.
    """
    area, needed = real["utility_auroc"], 0.5 + budgets.max_utility_loss
    if area.value is None or area.interval is None or area.interval[0] > needed or needed >= 1.0:
        return []
    low, high = area.interval
    return [
        f"Findings can't be learned well enough even from real images of this cohort, so that nothing is lost says "
        f"nothing: real.utility_auroc is {area.value:.3g} ({low:.3g} to {high:.3g}), and all of it must lie above "
        f"{needed:.3g}, which is chance and the loss that is allowed."
    ]


def short_of_exchangeability(student: Metrics, budgets: Budgets) -> list[str]:
    """Say where members and strangers differ in more than having been trained on, so that no attack on them is clean.

    A shadow model saw neither side. Where train images are easier for it, the plain attack accuses and the calibrated
    one, which divides by that, excuses; where they are harder, it is the other way round. Either way one of the two
    may hide a leak, so it must be shown that the sides differ by no more than a leak may: that no difference is proven
    would let small cohorts pass, and refuse large ones for next to nothing. Withheld images of train patients, if they
    are told from strangers', betray the people or show that the sides differ: which of the two, nobody knows. They are
    of people with several images, so what they show must exceed the budget.

    Args:
        student: with what was found of the shadow and of probes, where there are some.
        budgets: the bounds.

    Source: equivalence by a whole interval within margins, Schuirmann 1987, Journal of Pharmacokinetics and
    Biopharmaceutics 15:657.
    """
    found, most = [], budgets.max_membership_auc
    shadow, probe = student.get("membership_shadow_auc"), student.get("membership_probe_auc")
    if shadow and shadow.interval and not 1 - most <= shadow.interval[0] <= shadow.interval[1] <= most:
        low, high = shadow.interval
        said = f"membership_shadow_auc {shadow.value:.3g}, {low:.3g} to {high:.3g}"
        way, masked = ("easier", "beside the shadow") if low > 0.5 else ("harder", "without it")
        found.append(
            f"A shadow model that saw neither finds train images {way} than evaluation images ({said}): the two sides "
            f"differ in site, year or the like, or share people with calibration; the membership attack {masked} may "
            f"hide a leak."
            if not low <= 0.5 <= high
            else f"There are too few people to show that train and evaluation images are alike to a model that saw "
            f"neither ({said}, and all of it must lie within {1 - most:.3g} and {most:.3g}): one of the membership "
            f"attacks may hide a leak."
        )
    if probe and probe.interval and probe.interval[0] > most:
        found.append(
            f"Images of train patients that nobody trained on are told from strangers' (membership_probe_auc "
            f"{probe.value:.3g}, {probe.interval[0]:.3g} to {probe.interval[1]:.3g}): the model knows people and not "
            f"just their pictures, or the two sides differ."
        )
    return found


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
        "evaluate.probe_steps": (how.probe_steps, 100),
        "evaluate.audit_fpir": (how.audit_fpir, 0.01),
        "evaluate.audit_near_copy_fpir": (how.audit_near_copy_fpir, 0.005),
        "selftest.num_images": (test.num_images, 32),
        "selftest.num_inference_steps": (test.num_inference_steps, 10),
        "selftest.strengths": (len(set(test.strengths)), 4),
        "selftest.strengths, strongest": (max(test.strengths), 0.4),
        "attack.guidance_scales": (len(set(attack.guidance_scales)), 2),
        "attack.guidance_scales, strongest": (max(attack.guidance_scales), 3.0),
        "attack.num_samples in all ways": (harder, ATTACK_SHARE * asked),
        "attack.num_inference_steps": (attack.num_inference_steps, 5),
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
