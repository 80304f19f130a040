"""Membership inference against the model itself: does its denoising loss tell whom it was trained on?

The attacker has the weights, the images and the prompts, and asks one question an image: is its loss lower than that
of people the model never saw?
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.core.seeds import derive_seed, generator
from raydistill.metrics.bootstrap import Floats, WeightedStatistic, evaluate, resample, weighted_auc
from raydistill.metrics.intervals import Rate, korn_graubard
from raydistill.metrics.result import MetricResult, insufficient

FALSE_POSITIVE_RATES = (0.01, 0.001)
CONTROL_SPLITS = 200
REFERENCE = "Carlini et al. 2023; Watson et al. 2022"


def membership_attack(
    member_losses: Any,
    nonmember_losses: Any,
    member_patients: Any,
    nonmember_patients: Any,
    *,
    member_reference: Any = None,
    nonmember_reference: Any = None,
    confidence: float = 0.95,
    bootstrap: int = 500,
    seed: int = 0,
) -> dict[str, MetricResult]:
    """Attack with denoising losses at several noise levels.

    Args:
        member_losses: (N, T) loss of training images at T noise levels, positive where there is a reference.
        nonmember_losses: (M, T) of images of patients the model never saw.
        member_patients: (N,) patient of each training image.
        nonmember_patients: (M,) patient of each other image.
        member_reference: (N, T) positive losses of the same images under a model that saw none of them. The attack
            then judges the ratio of both: an image against its own difficulty, which multiplies a denoising loss.
        nonmember_reference: (M, T) the same.
        confidence: two-sided confidence, in (0, 1).
        bootstrap: resamples of patients.
        seed: root of resamples and of the control's splits.

    Returns:
        `membership_auc`, `membership_patient_auc` (one score a patient), `membership_control_auc` (members against
        members), and `membership_tpr_at_fpr_0.01` and `…_0.001`.

    Raises:
        ValueError: when shapes disagree, a loss isn't finite, or isn't positive where it must be.

    Source: loss attack on diffusion models, Carlini et al. 2023 (USENIX Security, Extracting Training Data from
    Diffusion Models, section 5.2); difficulty calibration, Watson et al. 2022 (ICLR); TPR at low FPR, Carlini et al.
    2022 (IEEE S&P, Membership Inference Attacks From First Principles).
    """
    losses = [_calibrated(member_losses, member_reference), _calibrated(nonmember_losses, nonmember_reference)]
    scores = membership_scores(np.concatenate(losses))
    patients = np.concatenate([_names(member_patients, "member"), _names(nonmember_patients, "other")])
    if len(scores) != len(patients):
        raise ValueError(f"{len(scores)} images with losses but {len(patients)} with patients")
    member = np.arange(len(scores)) < len(losses[0])
    how = _How(confidence, bootstrap, seed)
    control, low, high = _control_splits(scores[member], patients[member], seed)
    auc = _auc(member, scores, patients, "area under the ROC curve", how, control=control)
    if auc.value is not None and control is not None:
        auc = auc.with_note(f"95 % of {CONTROL_SPLITS} member-against-member splits lie in {low:.3f} to {high:.3f}")
    half = _halves(patients[member], generator(derive_seed(seed, "control"), "split", 0))
    results = {
        "membership_auc": auc,
        "membership_patient_auc": _auc(*_by_patient(member, scores, patients), "area over patients", how),
        "membership_control_auc": _auc(half, scores[member], patients[member], "area, members against members", how),
    }
    for rate in FALSE_POSITIVE_RATES:
        results[f"membership_tpr_at_fpr_{rate:g}"] = _tpr(member, scores, patients, rate, half, how)
    return results


def membership_scores(losses: Floats) -> Floats:
    """Return one score an image, higher for likelier members: minus the mean over standardised noise levels.

    Args:
        losses: (N, T), calibrated or not, members and others together. Each level is centred and scaled over all of
            them, which needs no knowledge of who is a member.
    """
    spread = losses.std(axis=0)
    return np.asarray(-((losses - losses.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).mean(axis=1))


def weighted_tpr(positive: Any, scores: Any, false_positive_rate: float) -> WeightedStatistic:
    """Return the highest true positive rate whose false positive rate stays within bounds, as a statistic to bootstrap.

    Args:
        positive: (N,) bool.
        scores: (N,) higher means positive; equal scores are accepted or rejected together.
        false_positive_rate: bound, in (0, 1).
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked, hit = np.asarray(scores)[order], np.asarray(positive, dtype=bool)[order]
    ties = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))

    def rate(weights: Floats) -> Floats:
        sides = (np.add.reduceat(weights[:, order] * side, ties, axis=1).cumsum(axis=1) for side in (hit, ~hit))
        true, false = (side / np.maximum(side[:, -1:], 1e-300) for side in sides)
        return np.asarray(np.where(false <= false_positive_rate, true, 0.0).max(axis=1))

    return rate


def _calibrated(losses: Any, reference: Any) -> Floats:
    values = np.asarray(losses, dtype=float)
    if reference is not None:
        difficulty = np.asarray(reference, dtype=float)
        if min(values.min(initial=1.0), difficulty.min(initial=1.0)) <= 0:
            raise ValueError("losses must be positive to be judged beside a reference")
        values = np.log(values) - np.log(difficulty)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"losses must be finite and (images, noise levels), got shape {values.shape}")
    return values


def _names(patients: Any, side: str) -> NDArray[np.str_]:
    # Members and others are different people even where two sources number them alike.
    return np.array([f"{side}:{patient}" for patient in patients], dtype=str)


@dataclass(frozen=True)
class _How:
    confidence: float
    bootstrap: int
    seed: int


def _auc(positive: Any, scores: Any, patients: Any, unit: str, how: _How, control: float | None = None) -> MetricResult:
    units = _fewer_patients(positive, patients)
    if units < 2:
        why = f"{units} patients on one side, at least 2 are needed"
        return insufficient(why, n=len(scores), unit=unit, confidence=how.confidence, reference=REFERENCE)
    area = weighted_auc(positive, scores)
    value = evaluate(area, len(scores))
    samples = resample(area, patients, repetitions=how.bootstrap, seed=how.seed)
    return MetricResult(
        value=value,
        interval=samples.logit(value, units, how.confidence),
        confidence=how.confidence,
        n=len(scores),
        unit=unit,
        estimator=(
            f"patient-clustered bootstrap ({how.bootstrap} resamples), logit interval at {100 * how.confidence:g} %"
        ),
        control=control,
        baseline=0.5,
        reference=REFERENCE,
        note=f"{int(np.sum(positive))} against {int(np.sum(~positive))}, at least {units} patients a side",
    )


def _tpr(member: Any, scores: Floats, patients: Any, bound: float, half: Any, how: _How) -> MetricResult:
    unit = f"share of members found at {100 * bound:g} % false positives"
    others, needed = len(np.unique(np.asarray(patients)[~member])), round(1 / bound)
    if others < needed or _fewer_patients(member, patients) < 2:
        why = f"{others} patients among non-members can't show a rate of {bound:g}; {needed} are needed"
        return insufficient(why, n=len(scores), unit=unit, confidence=how.confidence, reference=REFERENCE)
    value = evaluate(weighted_tpr(member, scores, bound), len(scores))
    strict, lenient = _thresholds(scores[~member], patients[~member], bound, how.confidence)
    # The threshold lets the largest share of members through, so exactly the value's share lies at or above it.
    found = np.argsort(np.argsort(-scores[member], kind="stable")) < round(value * member.sum())
    fixed = korn_graubard(found, patients[member], how.confidence)
    least, most = ((scores[member] >= threshold).mean() for threshold in (strict, lenient))
    low, high = np.hypot(value - least, value - fixed.low), np.hypot(most - value, fixed.high - value)
    return MetricResult(
        value=value,
        interval=(float(max(0.0, value - low)), float(min(1.0, value + high))),
        confidence=how.confidence,
        n=len(scores),
        unit=unit,
        estimator=(
            "MOVER of the members' share, the threshold fixed, and of their shares at the strictest and the most "
            f"lenient threshold that may have this rate; patient-clustered Korn-Graubard limits at "
            f"{100 * how.confidence:g} %"
        ),
        control=_control_tpr(half, scores[member], patients[member], bound),
        baseline=bound,
        reference=f"{REFERENCE}; Schaefer 1994; Zou and Donner 2008",
        note=f"{others} patients among non-members; 1 / FPR = {needed} is the least that can show this rate",
    )


def _thresholds(strangers: Floats, patients: Any, bound: float, confidence: float) -> tuple[float, float]:
    """Return the strictest and the most lenient threshold whose false positive rate may be the bound.

    At them the interval of the rate still holds the bound: the interval of a quantile, for clustered scores. The one is
    a stranger's score, or infinity; the other lies just above the next.

    Source: Schaefer 1994, Statistics in Medicine 13:1551, confidence bounds of a ROC curve at a given specificity.
    """
    ranked = np.unique(strangers)[::-1]

    def rate(place: int) -> Rate:
        return korn_graubard(strangers >= ranked[place], patients, confidence)

    # Rates grow with the place, and so do the limits but for a cluster here and there.
    places = range(len(ranked))
    nobody = korn_graubard(np.zeros(len(strangers)), patients, confidence).high >= bound
    first = bisect_left(places, True, key=lambda place: rate(place).high >= bound)
    after = bisect_left(places, True, key=lambda place: rate(place).low > bound)
    lenient = np.nextafter(ranked[after], np.inf) if after < len(ranked) else -np.inf
    return float("inf") if nobody else float(ranked[min(first, len(ranked) - 1)]), float(lenient)


def _control_tpr(half: Any, scores: Floats, patients: Any, bound: float) -> float | None:
    supported = len(np.unique(patients[~half])) >= round(1 / bound) and half.any()
    return evaluate(weighted_tpr(half, scores, bound), len(scores)) if supported else None


def _halves(patients: Any, rng: np.random.Generator) -> NDArray[np.bool_]:
    names, codes = np.unique(patients, return_inverse=True)
    return (rng.permutation(len(names)) < len(names) // 2)[codes]


def _control_splits(scores: Floats, patients: Any, seed: int) -> tuple[float | None, float, float]:
    if len(np.unique(patients)) < 2:
        return None, 0.0, 1.0
    root = derive_seed(seed, "control")
    halves = [_halves(patients, generator(root, "split", number)) for number in range(CONTROL_SPLITS)]
    areas = [evaluate(weighted_auc(half, scores), len(scores)) for half in halves]
    low, high = np.quantile(areas, [0.025, 0.975])
    return areas[0], float(low), float(high)


def _by_patient(member: Any, scores: Floats, patients: Any) -> tuple[Any, Floats, Any]:
    names, first, codes = np.unique(patients, return_index=True, return_inverse=True)
    return member[first], np.bincount(codes, scores) / np.bincount(codes), names


def _fewer_patients(positive: Any, patients: Any) -> int:
    return min(len(np.unique(patients[side])) for side in (positive, ~positive))
