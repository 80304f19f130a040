"""Re-identification of samples against the whole gallery: rates beside their controls, the worst patients, subgroups.

A sample's *cluster* is its nearest gallery patient. One memorised patient yields many hits at once, so hits on one
patient are one piece of evidence, not many; samples that resemble different patients share nothing but the model.
A real image's cluster is its own patient.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

from raydistill.metrics.intervals import (
    Rate,
    clustered_rate,
    excess_risk,
    independent_difference,
    korn_graubard,
    paired_difference,
    rate_result,
)
from raydistill.metrics.likeness import Likeness
from raydistill.metrics.result import MetricResult, insufficient, results_table

SAMPLES = "share of samples"
NO_SAMPLES = "no image was matched"
TAIL = 0.999
"""The percentile that shows the worst of the samples without being decided by one alone."""

ATTACKED = (
    "reidentification_rate", "excess_risk", "leak_rate", "similarity_p999", "near_copy_excess", "copied_excess",
    "identified_excess", "patients_hit_excess",
    "closer_to_train_share", "closer_to_train_excess",
)  # fmt: skip
"""What is reported of samples that were asked for harder, as `attacked_…`."""

IMAGE_STEPS = (2, 5, 10)
"""Gallery images from which on a patient is of another kind: one, two to four, five to nine, ten or more."""

HASH_DIGITS = 16
"""Hexadecimal digits kept of a patient's keyed hash: 64 bits, no collision among any number of patients that exist."""


def rates(
    sample_scores: Any,
    sample_clusters: Any,
    control_scores: Any,
    control_clusters: Any,
    threshold: float,
    confidence: float = 0.95,
    likeness: Likeness | None = None,
) -> dict[str, MetricResult]:
    """Return the re-identification rate of samples, that of real outsiders, and the excess of the first.

    Args:
        sample_scores: (N,) maximum similarity of each sample over the gallery, in [-1, 1].
        sample_clusters: (N,) nearest gallery patient of each sample.
        control_scores: (M,) the same of real images of patients outside the gallery.
        control_clusters: (M,) the patient of each of those.
        threshold: operating point; a score at or above it is a hit.
        confidence: two-sided confidence, in (0, 1).
        likeness: how far outsiders are a fair control; without it they are.

    Returns:
        `reidentification_rate`, `control_rate` and `excess_risk`.

    Source: open-set identification rates, ISO/IEC 19795-1; excess risk, Giomi et al. 2023, PoPETs 2023(2):312.
    """
    scores, controls = np.asarray(sample_scores), np.asarray(control_scores)
    if not len(scores) or not len(controls):
        missing = insufficient(NO_SAMPLES, n=len(scores), unit=SAMPLES, confidence=confidence)
        return dict.fromkeys(("reidentification_rate", "control_rate", "excess_risk"), missing)
    rate = korn_graubard(scores >= threshold, sample_clusters, confidence)
    control = korn_graubard(controls >= threshold, control_clusters, confidence)
    where = f"threshold {threshold:.4g}"
    fair, done = likeness.control(control) if likeness else (control, "")
    return {
        "reidentification_rate": rate_result(rate, unit=SAMPLES, control=fair.value, note=where),
        "control_rate": rate_result(control, unit="share of unseen real images", note=where),
        "excess_risk": _excess(rate, fair, "; ".join(filter(None, [where, done]))),
    }


def similarities(sample_scores: Any, control_scores: Any, confidence: float = 0.95) -> dict[str, MetricResult]:
    """Return the highest similarity of any sample to any gallery image and the 99.9th percentile, beside outsiders'.

    Args:
        sample_scores: (N,) maximum similarity of each sample over the gallery, in [-1, 1].
        control_scores: (M,) the same of real images of patients outside the gallery.
        confidence: two-sided confidence, in (0, 1).

    Returns:
        `max_similarity`, `similarity_p999`.

    Source: interval of a quantile by order statistics, Conover, Practical Nonparametric Statistics, 1999, section 3.2.
    """
    scores, controls = np.sort(np.asarray(sample_scores, float)), np.asarray(control_scores, float)
    unit = "cosine similarity"
    if not len(scores) or not len(controls):
        return dict.fromkeys(("max_similarity", "similarity_p999"), insufficient(NO_SAMPLES, n=len(scores), unit=unit))
    shared = {"n": len(scores), "unit": unit, "confidence": confidence, "baseline": 1.0}
    low, high = (int(rank) for rank in stats.binom.interval(confidence, len(scores), TAIL))
    # Of fewer samples no order statistic bounds the percentile from above; a cosine has a bound of its own.
    bounds = float(scores[max(low - 1, 0)]), float(scores[high]) if high < len(scores) else 1.0
    return {
        "max_similarity": MetricResult(
            value=float(scores[-1]),
            estimator="maximum over samples of the maximum over the gallery; a maximum has no interval",
            control=float(controls.max()),
            reference="ISO/IEC 19795-1",
            note=f"of {len(scores)} samples and {len(controls)} unseen real images; a maximum grows with their number",
            **shared,
        ),
        "similarity_p999": MetricResult(
            value=float(np.quantile(scores, TAIL)),
            interval=bounds,
            estimator=f"percentile of the maxima over the gallery; order statistics at {100 * confidence:g} %",
            control=float(np.quantile(controls, TAIL)),
            reference="Conover 1999",
            note=f"of {len(controls)} unseen real images as control",
            **shared,
        ),
    }


def closer_to_train(
    train_scores: Any,
    unseen_scores: Any,
    clusters: Any,
    threshold: float,
    confidence: float = 0.95,
    control: tuple[Any, Any, Any] | None = None,
) -> dict[str, MetricResult]:
    """Compare train and unseen gallery, with and without a threshold.

    Args:
        train_scores: as for `closer_to_train_share`.
        unseen_scores: as there.
        clusters: as there.
        threshold: operating point of both galleries.
        confidence: two-sided confidence, in (0, 1).
        control: the first three of real images of people who are in neither gallery.

    Returns:
        `closer_to_train_share`, `closer_to_train_excess` (beyond the control: a network taught by the train gallery may
        keep its people further apart than others), `train_minus_unseen_rate`.
    """
    share = closer_to_train_share(train_scores, unseen_scores, clusters, confidence)
    theirs = closer_to_train_share(*control, confidence) if control else None
    beyond = insufficient("no image of people in neither gallery", n=share.n, unit="difference of shares")
    if theirs and share.interval and theirs.interval and share.value is not None and theirs.value is not None:
        value, low, high = independent_difference(share.value, share.interval, theirs.value, theirs.interval)
        beyond = MetricResult(
            value=value,
            interval=(low, high),
            confidence=confidence,
            n=share.n,
            unit="difference of shares",
            estimator=f"share less control; MOVER on patient-clustered limits at {100 * confidence:g} %",
            control=theirs.value,
            baseline=0.0,
            reference="Platzer and Reutterer 2021; Zou and Donner 2008",
        )
    return {
        "closer_to_train_share": share.model_copy(update={"control": theirs.value if theirs else None}),
        "closer_to_train_excess": beyond,
        "train_minus_unseen_rate": train_minus_unseen_rate(
            train_scores, unseen_scores, clusters, threshold, confidence
        ),
    }


def closer_to_train_share(
    train_scores: Any, unseen_scores: Any, clusters: Any, confidence: float = 0.95, control: float | None = None
) -> MetricResult:
    """Return the share of samples that resemble the train gallery more than an unseen one of the same size.

    If nothing was memorised the two galleries are exchangeable and the share is 0.5; ties count a half. No threshold.

    Args:
        train_scores: (N,) maximum similarity of each sample over the train gallery, or (N, P) over P parts of it.
        unseen_scores: (N,) or (N, P), the same over a gallery of patients nobody trained on. Part by part, the two have
            equally many patients and equally many images of each.
        clusters: (N,) nearest patient over *both* galleries: under exchangeability all samples won by one patient fall
            on one side together. The nearest train patient alone makes the interval somewhat too narrow.
        confidence: two-sided confidence, in (0, 1).
        control: the same share among real images of people who are in neither gallery.

    Source: distance to closest record, train against holdout, Platzer and Reutterer 2021, Frontiers in Big Data
    4:679939.
    """
    train, unseen = _parts(train_scores), _parts(unseen_scores)
    wins = ((train > unseen) + 0.5 * (train == unseen)).mean(axis=1)
    return clustered_rate(
        wins, clusters, confidence, unit=SAMPLES, control=control, baseline=0.5, reference="Platzer and Reutterer 2021"
    )


def train_minus_unseen_rate(
    train_scores: Any, unseen_scores: Any, clusters: Any, threshold: float, confidence: float = 0.95
) -> MetricResult:
    """Return how much more often samples hit the train gallery than an unseen one of the same size.

    Args:
        train_scores: (N,) or (N, P), as for `closer_to_train_share`.
        unseen_scores: (N,) or (N, P), as there.
        clusters: (N,) as for `closer_to_train_share`.
        threshold: operating point of both.
        confidence: two-sided confidence, in (0, 1).
    """
    train, unseen = ((_parts(scores) >= threshold).mean(axis=1) for scores in (train_scores, unseen_scores))
    if not len(train):
        return insufficient(NO_SAMPLES, n=0, unit="difference of shares", confidence=confidence)
    value, low, high = paired_difference(train, unseen, clusters, confidence)
    return MetricResult(
        value=value,
        interval=(low, high),
        confidence=confidence,
        n=len(train),
        unit="difference of shares",
        estimator=f"paired difference; MOVER on patient-clustered Korn-Graubard limits at {100 * confidence:g} %",
        control=float(unseen.mean()),
        baseline=0.0,
        reference="Newcombe 1998; Zou and Donner 2008",
        note=f"threshold {threshold:.4g}; train {train.mean():.4f}, unseen {unseen.mean():.4f}",
    )


def people_weights(patients: Any, gallery: Any) -> NDArray[np.float64]:
    """Return how much each probe counts where each of the gallery's patients is to count once.

    A person's probes share one person's weight. People who have about as many gallery images as each other stand for
    all such of the gallery; where none of them has a probe, those with the next fewer images do, or the next more.

    Args:
        patients: (N,) whose each probe is; all of them are in the gallery.
        gallery: (G,) whose each gallery image is.

    Returns:
        (N,) positive, adding up to 1.

    Source: post-stratification, Holt and Smith 1979, Journal of the Royal Statistical Society A 142:33.
    """
    probes = np.asarray(patients, dtype=str)
    if not len(probes):
        return np.empty(0)
    names, images = np.unique(np.asarray(gallery, dtype=str), return_counts=True)
    kinds = np.searchsorted(IMAGE_STEPS, images, side="right")
    own, codes, counts = np.unique(probes, return_inverse=True, return_counts=True)
    kind = kinds[np.searchsorted(names, own)]
    there = np.unique(kind)
    # Everybody of the gallery is stood for by a kind that has probes.
    stood = there[np.maximum(0, np.searchsorted(there, kinds, side="right") - 1)]
    people = np.array([(stood == one).sum() / (kind == one).sum() for one in kind]) / len(names)
    return np.asarray((people / counts)[codes], dtype=float)


def worst_patients(nearest_patient_ids: Any, flagged: Any, key: bytes, top: int = 10) -> pa.Table:
    """Return the patients most often hit, under keyed hashes.

    Args:
        nearest_patient_ids: (N,) nearest gallery patient of each sample, as in the source.
        flagged: (N,) bool, whether the sample is a hit.
        key: secret that stays with the custodian; without it a hash can't be linked to a patient.
        top: rows at most.

    Returns:
        Columns `patient` (16 hexadecimal digits of HMAC-SHA256), `hits`, `samples` (that have the patient as nearest),
        most hits first; patients without a hit are left out.

    Raises:
        ValueError: when the key is empty.
    """
    if not key:
        raise ValueError("a keyed hash needs a key: an unkeyed one can be undone by hashing every known id")
    ids, codes = np.unique(np.asarray(nearest_patient_ids, dtype=str), return_inverse=True)
    hits, samples = np.bincount(codes, np.asarray(flagged, dtype=float)).astype(int), np.bincount(codes)
    rows = [
        (_keyed_hash(name, key), h, n) for name, h, n in zip(ids, hits.tolist(), samples.tolist(), strict=True) if h
    ]
    ranked = sorted(rows, key=lambda row: (-row[1], row[0]))[:top]
    schema = pa.schema([("patient", pa.string()), ("hits", pa.int64()), ("samples", pa.int64())])
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in ranked], schema=schema)


def subgroup_rates(
    flagged: Any, clusters: Any, groups: Mapping[str, Sequence[Any]], confidence: float = 0.95
) -> pa.Table:
    """Return the rate of hits within each subgroup, beside the rate of everyone else as `control`.

    Args:
        flagged: (N,) bool, whether the sample is a hit.
        clusters: (N,) nearest gallery patient of each sample.
        groups: attribute to (N,) the value each sample was asked for, such as `sex` or `age_band`; None is `unknown`.
        confidence: two-sided confidence of each interval by itself, not corrected for the number of subgroups.

    Returns:
        `result.results_table` with rows named `attribute=value`.
    """
    hit, cluster = np.asarray(flagged, dtype=bool), np.asarray(clusters)
    results = {}
    for attribute, values in groups.items():
        names = np.array(["unknown" if value is None else str(value) for value in values], dtype=str)
        for name in np.unique(names):
            inside = names == name
            rest = float(hit[~inside].mean()) if not inside.all() else None
            results[f"{attribute}={name}"] = clustered_rate(
                hit[inside], cluster[inside], confidence, unit=SAMPLES, control=rest
            )
    return results_table(results)


def _excess(rate: Rate, control: Rate, note: str) -> MetricResult:
    bounds = excess_risk(rate, control)
    if bounds is None:
        why = "outsiders may be hit always, so nothing can exceed them"
        return insufficient(why, n=rate.n, unit=SAMPLES, confidence=rate.confidence)
    value, low, high = bounds
    return MetricResult(
        value=value,
        interval=(low, high),
        confidence=rate.confidence,
        n=rate.n,
        unit="share of samples beyond chance",
        estimator=(
            "(rate - control) / (1 - control); MOVER-R on patient-clustered Korn-Graubard limits at "
            f"{100 * rate.confidence:g} % ({rate.num_clusters} and {control.num_clusters} patients)"
        ),
        control=control.value,
        baseline=0.0,
        reference="Giomi et al. 2023; Donner and Zou 2012",
        note="; ".join(filter(None, [note, rate.zero_note])),
    )


def _parts(scores: Any) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=float)
    return values if values.ndim > 1 else values[:, None]


def _keyed_hash(name: str, key: bytes) -> str:
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:HASH_DIGITS]
