"""What no claim can be made without, however good the numbers: people, an auditor that sees, sides that are alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raydistill.core.config import Budgets
from raydistill.metrics.gate import ATTACKS, Metrics, against
from raydistill.metrics.result import insufficient

SMALLEST_PUBLIC_GROUP = 11
"""Images or patients; of fewer nothing is told outside the house.
Source: the cell size suppression policy of the US Centers for Medicare and Medicaid Services."""

MEASURED_ON = ("train", "calibration", "evaluation")
"""Roles without which a certificate can say nothing; probes are read by few metrics."""

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


def said_of_touched(touched: Sequence[str]) -> str:
    """Begin the sentence that says in which ways a student has touched real data, at least one."""
    return f"The student has touched real data: {'; '.join(touched)}"


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


def short_of_absence(student: Metrics, budgets: Budgets) -> list[str]:
    """Say where the model betrays whom it learned from by keeping away: what is as telling as being drawn to them.

    The budgets bound one side. An attacker who turns the order round has an area of 0.95 where this one has 0.05, and
    who looks for nobody's likeness finds who is missing.

    Args:
        student: with what was found of membership and of closeness.
        budgets: the bounds; as far below a coin's half as they lie above it nothing may be proven.
    """
    areas = [f"{attack}_{area}" for attack in ATTACKS for area in ("auc", "patient_auc")]
    # A network may keep train patients apart from all others, so closeness is held against its control.
    shares = ("closer_to_train_excess", "attacked_closer_to_train_excess")
    harder = "train images are told from strangers' by being harder for the model"
    apart = "samples keep further from train patients than other people do"
    held = dict.fromkeys(areas, (1 - budgets.max_membership_auc, harder))
    held |= dict.fromkeys(shares, (0.5 - budgets.max_closer_to_train_share, apart))
    found = []
    for name, (least, what) in held.items():
        one = student.get(name)
        if one and one.interval and one.interval[1] < least:
            low, high = one.interval
            found.append(
                f"{name} is {one.value:.3g} ({low:.3g} to {high:.3g}), all of it under {least:.3g}: {what}; whose "
                f"absence is learned is betrayed too, or the two sides differ."
            )
    return found
