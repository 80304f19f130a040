"""What the report says in words: the metrics' names, what they mean, the limits."""

from dataclasses import dataclass

from raydistill.metrics.filtering import GENERATED
from raydistill.metrics.patients import HIT_TIMES


@dataclass(frozen=True)
class Title:
    """A metric's name for people, what it means, and the section it stands in."""

    name: str
    meaning: str
    section: str


STRANGERS, ADJUSTED = "strangers' rate", "adjusted control"
"""Two controls: how often strangers' images are taken for patients, and that times how much more average samples are
(`metrics/likeness.py`)."""

HELD_AGAINST_ADJUSTED = (
    "reidentification_rate",
    "excess_risk",
    "near_copy_rate",
    "near_copy_excess",
    "worst_excess_risk",
)
"""Metrics whose control is the adjusted one, asked by default or harder."""

PRIVACY, UTILITY, FIDELITY, FILTER, OTHER = "Privacy", "Utility", "Fidelity", "Filter", "Other"
METRICS = {
    "reidentification_rate": Title(
        "Re-identification rate", "Share of images that the auditor takes for a gallery patient.", PRIVACY
    ),
    "control_rate": Title(
        "Strangers' rate", "The same share among real images of people who aren't in the gallery.", PRIVACY
    ),
    "excess_risk": Title(
        "Excess risk",
        "(rate − adjusted control) / (1 − adjusted control): what chance doesn't explain.",
        PRIVACY,
    ),
    "max_similarity": Title("Maximum similarity", "The closest that any image comes to a gallery image.", PRIVACY),
    "similarity_p999": Title(
        "99.9th percentile of similarity",
        "What one image of a thousand reaches; less fickle than the maximum.",
        PRIVACY,
    ),
    "leak_rate": Title(
        "Leak, corrected",
        "Share of images that show a gallery patient, corrected for whom the auditor overlooks and imagines.",
        PRIVACY,
    ),
    "copied_rate": Title(
        "Certain copies", "Share of images twice as near to a real picture as any stranger's picture is.", PRIVACY
    ),
    "copied_excess": Title(
        "Certain copies beyond chance",
        "What an unseen gallery doesn't show as well. If it is surely above 0, that fails.",
        PRIVACY,
    ),
    "pairwise_threshold_fpir": Title(
        "If the threshold were set on pairs",
        "Share of strangers who'd match somebody, were the threshold one that a pair of different people in a thousand "
        "passes.",
        FILTER,
    ),
    "prompt_k": Title(
        "Patients behind the rarest prompt",
        "The fewest train patients who share a prompt asked for. Outside the house a number under 11 is the bound that the "
        "configuration sets: there are at least so many.",
        PRIVACY,
    ),
    "prompt_marks": Title(
        "Prompts with marks", "Share of prompts that hold a date, a name, an id or a de-identification mark.", PRIVACY
    ),
    "prompt_linkage": Title(
        "Linkage by prompt",
        "How much more often the nearest train patient has the rare finding asked for than an unseen one; 0 is chance.",
        PRIVACY,
    ),
    "near_copy_rate": Title(
        "Near-copy rate", "Share of images that are nearly the same picture as a real one.", PRIVACY
    ),
    "near_copy_excess": Title(
        "Near-copies beyond chance",
        "(rate − adjusted control) / (1 − adjusted control) of the near-copies: what unseen real images don't show as well.",
        PRIVACY,
    ),
    "closer_to_train_share": Title(
        "Closer to train",
        "Share of images closer to people the model saw than to unseen ones. Chance comes to what the control is, the same "
        "share of strangers' real images: networks that learned from the same people can move it from 0.5.",
        PRIVACY,
    ),
    "closer_to_train_excess": Title(
        "Closer to train than strangers are",
        "The share above less its control; 0 is chance.",
        PRIVACY,
    ),
    "attacked_worst_excess_risk": Title(
        "Excess risk, the worst way of asking",
        "The largest of the ways of asking harder; its interval ends at the largest ends of all ways'.",
        PRIVACY,
    ),
    "unseen_rate": Title(
        "Taken for unseen people",
        "Share of images taken for people whom no model saw, beside that of strangers' images. Where it is smaller, the "
        "adjusted control is as much smaller than the strangers' rate.",
        PRIVACY,
    ),
    "train_minus_unseen_rate": Title(
        "Train minus unseen rate",
        "How much more often images match people the model saw than as many unseen ones; 0 is chance.",
        PRIVACY,
    ),
    **{
        f"patients_hit_{k}": Title(
            f"Patients hit {k} times or more" if k > 1 else "Patients hit at all",
            "Share of train patients who so many images are taken for, beside that of equally many unseen ones.",
            PRIVACY,
        )
        for k in HIT_TIMES
    },
    "patients_hit_excess": Title(
        "Patients hit more often than by chance",
        "How many more train patients than unseen ones are hit so often, where that is most certain: above 0 people "
        "are reproduced, however few.",
        PRIVACY,
    ),
    "near_copy_control_rate": Title(
        "Near-copies among strangers", "The same share of real images of people nobody trained on.", PRIVACY
    ),
    "auditor_sensitivity": Title(
        "Copies that the audit sees",
        "Share of the self-test's treated train images that the audit finds, by its network or by structure: what it "
        "can't see, it can't clear.",
        PRIVACY,
    ),
    "identified_rate": Title(
        "Images that certainly show somebody",
        "Share of samples twice as like a gallery image, to the auditor's network, as any stranger's is.",
        PRIVACY,
    ),
    "identified_excess": Title(
        "Images that certainly show somebody, beyond chance",
        "That share less what an unseen gallery explains; above 0, however little, people are shown.",
        PRIVACY,
    ),
    "certain_sensitivity": Title(
        "Copies that are certain",
        "Share of the same images that are proven copies, by structure or by the network; cropped ones seldom are.",
        PRIVACY,
    ),
    "membership_probe_auc": Title(
        "Membership AUC of images nobody trained on",
        "The same between withheld images of train patients and strangers: far from 0.5 either the sides differ, or the "
        "model knows the people and not just their pictures.",
        PRIVACY,
    ),
    "auditor_tpir": Title(
        "What the auditor sees",
        "Share of new images of gallery patients that the auditor finds: what it can't see, it can't clear.",
        PRIVACY,
    ),
    "membership_patient_auc": Title(
        "Membership AUC by patient", "The same with one score a patient; 0.5 is chance.", PRIVACY
    ),
    "membership_control_auc": Title(
        "Membership AUC, control arm",
        "The same between two halves of the members, where nothing can be found.",
        PRIVACY,
    ),
    "membership_shadow_auc": Title(
        "Membership AUC of the shadow model",
        "The same asked of a model that saw neither side: far from 0.5 the sides differ, the figure by difficulty is "
        "theirs in part, and no run passes.",
        PRIVACY,
    ),
    "membership_auc": Title(
        "Membership AUC", "How well the model itself tells who was trained on; 0.5 is chance.", PRIVACY
    ),
    "membership_tpr_at_fpr_0.01": Title(
        "Members found at 1 % false alarms",
        "Share of members found when 1 % of others are accused; 0.01 is chance.",
        PRIVACY,
    ),
    "membership_tpr_at_fpr_0.001": Title(
        "Members found at 0.1 % false alarms",
        "Share of members found when 0.1 % of others are accused; 0.001 is chance.",
        PRIVACY,
    ),
    "utility_auroc": Title("Findings AUROC", "A classifier trained on these images, tested on real ones.", UTILITY),
    "utility_loss": Title("Utility loss", "AUROC of real training images minus AUROC of these.", UTILITY),
    "utility_over_teacher": Title(
        "Utility over the teacher", "AUROC of these images minus AUROC of the teacher's samples.", UTILITY
    ),
    "calibration_error": Title(
        "Calibration error",
        "How far the classifiers' probabilities are from the shares that have a finding (root mean square), less what "
        "chance adds.",
        UTILITY,
    ),
    "frechet_distance": Title(
        "Fréchet distance", "Distance of the feature distributions; lower is closer to real.", FIDELITY
    ),
    "kernel_distance": Title(
        "Kernel distance", "Squared maximum mean discrepancy of the features; 0 is equal.", FIDELITY
    ),
    "precision": Title("Precision", "Share of images that look like a real one.", FIDELITY),
    "recall": Title("Recall", "Share of real images that the set can look like.", FIDELITY),
    "density": Title("Density", "How densely real neighbourhoods are hit; 1 is real.", FIDELITY),
    "coverage": Title("Coverage", "Share of real neighbourhoods that are hit at all.", FIDELITY),
    "kept": Title("Kept", "Teacher samples that the student may learn from.", FILTER),
    "dropped": Title("Dropped", "Teacher samples held back, by reason.", FILTER),
    "smallest_fpir": Title(
        "Smallest FPIR", "The smallest false alarm rate that so many calibration patients can support.", FILTER
    ),
    "fpir": Title("FPIR", "Share of strangers that the filter flags.", FILTER),
    "tpir": Title("TPIR", "Share of new images of gallery patients flagged with the right patient on top.", FILTER),
    "sensitivity": Title("Sensitivity", "Share of planted near-copies that the filter flags.", FILTER),
    "still_copies": Title(
        "Still copies",
        "Share of train images that, noised and denoised by the teacher, another network than the filter's, or the "
        "correlation of pixels, still takes for the source: these count for the sensitivity.",
        FILTER,
    ),
    "sensitivity.generator": Title(
        "Sensitivity to the teacher's own copies",
        "The same for copies on the generator's own manifold: train images that the teacher noised and denoised, "
        "at all strengths. A copy is what another network, or the correlation of pixels (Dar et al. 2024), takes for the "
        "source at an FPIR of 5 %, the source on top.",
        FILTER,
    ),
    "sensitivity.generator_recognised": Title(
        "Sensitivity to the teacher's own copies that a network recognises",
        "The same, of those that another network takes for the source: the filter's search for near-copies correlates "
        "pixels too, so it finds what only the pixels call a copy more easily.",
        FILTER,
    ),
    "sensitivity.generator_all": Title(
        "Sensitivity to whatever the teacher made of train images",
        "The same, whether anything leads back to the source or not.",
        FILTER,
    ),
    "false_flag_rate": Title("False flag rate", "Share of equally treated strangers that it flags.", FILTER),
    "false_flag_rate.generator": Title(
        "False flags of the teacher's own copies",
        "Share of strangers noised and denoised by the teacher that it flags.",
        FILTER,
    ),
    "consistency_jaccard": Title(
        "Agreement (Jaccard)",
        "Of planted pictures flagged with either of two eyes, those flagged with both; of the least agreeing pair.",
        FILTER,
    ),
    "rank_agreement": Title(
        "Agreement of probe and network (Kendall's tau)",
        "Whether the linear probe, by which the search goes, ranks settings as networks trained on what they keep do.",
        FILTER,
    ),
    "consistency_kappa": Title("Agreement (kappa)", "Agreement of two eyes beyond chance.", FILTER),
    "consistency_jaccard.identity": Title(
        "Agreement of the networks alone (Jaccard)", "The same without the structural measure, which all share.", FILTER
    ),
    "consistency_kappa.identity": Title(
        "Agreement of the networks alone (kappa)", "The same without the structural measure, beyond chance.", FILTER
    ),
    "consistency_jaccard.generator": Title(
        "Consistency on what the teacher made",
        "The same, of those planted pictures alone that the teacher noised and denoised: on shifts and blur it is easy "
        "to agree.",
        FILTER,
    ),
    "consistency_jaccard.samples": Title(
        "Agreement on the teacher's samples (Jaccard)",
        "The same of its samples: how far another network would have dropped the same ones. It has no budget.",
        FILTER,
    ),
    "consistency_kappa.samples": Title(
        "Agreement on the teacher's samples (kappa)", "The same of its samples, beyond chance.", FILTER
    ),
}


VARIANTS = {
    ("domain_", ""): (
        ", by a domain network", "On the features of a network that learned findings from the real train images."
    ),
    ("encoder_", ""): (", by a public encoder", "On the features of the public encoder that was configured."),
    ("attacked_", ""): (", asked harder", "Of samples asked for with other guidance, few steps, every prompt alike."),
    ("membership_calibrated_", "membership_"): (
        ", by difficulty", "Each image is judged beside how hard it is for a model that saw neither side."
    ),
}  # fmt: skip
"""What a metric's name begins with, what stands there otherwise, and what that adds to its words."""


def title(metric: str) -> Title:
    """Return the words for a metric; a metric the report doesn't know keeps its own name."""
    family, _, part = metric.partition(".")
    if metric in METRICS:
        return METRICS[metric]
    for prefix, said in VARIANTS.items():
        known = METRICS.get(metric.replace(*prefix, 1)) if metric.startswith(prefix[0]) else None
        if known:
            return Title(f"{known.name}{said[0]}", f"{known.meaning} {said[1]}", known.section)
    if part and family in METRICS:
        known = METRICS[family]
        return Title(f"{known.name}: {treatment(part)}", known.meaning, known.section)
    return Title(plain(metric), "", OTHER)


OF_THE_TEACHER = {
    "generator": "all",
    "generator_recognised": "recognised by a network",
    "generator_all": "copies or not",
}
"""Parts of a metric that are of all strengths together."""


def control_name(metric: str) -> str:
    """Return what a metric's control is called.

    Example:
        >>> control_name("attacked_excess_risk"), control_name("precision")
        ('adjusted control', 'control')
    """
    return ADJUSTED if metric.removeprefix("attacked_") in HELD_AGAINST_ADJUSTED else "control"


def is_one_treatment(metric: str) -> bool:
    """Whether a metric is the part of one treatment in another; a figure shows those side by side."""
    family, _, part = metric.partition(".")
    return family in ("sensitivity", "false_flag_rate") and part not in ("", *OF_THE_TEACHER)


def treatment(name: str) -> str:
    """Write the name of a treatment, or of any other part of a metric, for people.

    Example:
        >>> treatment("noise"), treatment("noise_0.35"), treatment("generator")
        ('noise', 'through the teacher, 0.35', 'through the teacher, all')
    """
    if name in OF_THE_TEACHER:
        return f"through the teacher, {OF_THE_TEACHER[name]}"
    return f"through the teacher, {name.removeprefix(GENERATED)}" if name.startswith(GENERATED) else plain(name)


def plain(name: str) -> str:
    """Write a name of code for people.

    Example:
        >>> plain("identity+near_copy")
        'identity + near copy'
    """
    return name.replace("+", " + ").replace("_", " ")


LIMITS = (
    "No formal guarantee: this is not differential privacy. The attacks that were run found what is stated; "
    "others, or later ones, may find more.",
    "A pass is against the budgets of this run's configuration. Whether these are the right budgets is for people to decide.",
    "Re-identification is judged by networks trained on this cohort. A stronger recogniser may see more; the self-test "
    "says how much these ones miss on copies that were planted.",
    "Risk is measured over these samples. Other prompts, or very many more samples, can reach rarer patients.",
    "Utility is that of a small classifier of the findings named here, not of clinical use. Synthetic images are not for diagnosis.",
)
