"""Classifiers trained more than once on each of several sets: mean areas, the luck of training counted in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.metrics.bootstrap import evaluate
from raydistill.metrics.luck import Luck, pooled, together, widened
from raydistill.metrics.result import MetricResult, results_table
from raydistill.metrics.utility import macro_auroc, mean_area, paired_difference, scarcer_side, supported


def luck_of_training(labels: Any, groups: Iterable[Any], patients: Any) -> Luck:
    """Return the variance of the areas of classifiers that differ by their seeds alone, pooled over groups of them.

    Args:
        labels: (N, F) of 0 and 1.
        groups: (S, N, F) scores of S such classifiers, each.
        patients: (N,) patient of each image.
    """
    truth = np.asarray(labels, dtype=bool)
    used = supported(truth, patients)
    if not used.any():
        return Luck(0.0, 0)
    return pooled(
        [evaluate(mean_area(truth[:, used], own[:, used]), len(truth)) for own in np.asarray(group, float)]
        for group in groups
    )


def repeated_auroc(
    labels: Any,
    scores: Any,
    patients: Any,
    luck: Luck,
    confidence: float = 0.95,
    bootstrap: int = 500,
    seed: int = 0,
) -> MetricResult:
    """Return the mean macro area of S classifiers taught alike.

    Args:
        labels: (N, F) of 0 and 1, real evaluation images.
        scores: (S, N, F), higher means likelier.
        patients: (N,) patient of each image.
        luck: of training.
        confidence: two-sided confidence, in (0, 1).
        bootstrap: resamples of patients.
        seed: root of the resamples; equal for everything to be compared.

    Source: as `utility.macro_auroc`; the two sources of error put together by MOVER, Zou and Donner 2008.
    """
    area = macro_auroc(labels, scores, patients, confidence, bootstrap, seed)
    return widened(area, {luck: 1 / len(scores)}, (0.0, 1.0))


def repeated_difference(
    labels: Any,
    scores_a: Any,
    scores_b: Any,
    patients: Any,
    luck: Luck,
    confidence: float = 0.95,
    bootstrap: int = 500,
    seed: int = 0,
    luck_b: Luck | None = None,
) -> MetricResult:
    """Return the mean macro area of some classifiers minus that of others, on the same images and resamples.

    Args:
        labels: (N, F) of 0 and 1.
        scores_a: (S, N, F) of the first.
        scores_b: (T, N, F) of the others.
        patients: (N,) patient of each image.
        luck: of training; that of the two is independent.
        confidence: two-sided confidence, in (0, 1).
        bootstrap: resamples of patients.
        seed: root of the resamples.
        luck_b: that of the others, where it is another; by default the same.

    Source: as `utility.paired_difference`; put together by MOVER, Zou and Donner 2008.
    """
    gap = paired_difference(labels, scores_a, scores_b, patients, confidence, bootstrap, seed)
    parts = together([(luck, 1 / len(scores_a)), (luck_b or luck, 1 / len(scores_b))])
    return widened(gap, parts, (-1.0, 1.0))


def by_finding(
    labels: Any,
    groups: Sequence[Any],
    patients: Any,
    findings: Sequence[str],
    confidence: float = 0.95,
    bootstrap: int = 500,
    seed: int = 0,
) -> pa.Table:
    """Return the area of every finding by itself.

    Args:
        labels: (N, F) of 0 and 1.
        groups: (S, N, F) scores of the classifiers that are measured, and of others taught alike, for the luck.
        patients: (N,) patient of each image.
        findings: F names.
        confidence: of each interval by itself, not corrected for the number of findings.
        bootstrap: resamples of patients.
        seed: root of the resamples.

    Returns:
        `result.results_table`, and `group_size`: patients with the finding or without it, whichever are fewer.
    """
    truth, values = np.asarray(labels, dtype=bool), [np.asarray(group, dtype=float) for group in groups]
    results = {
        name: _of(truth[:, [at]], [group[..., [at]] for group in values], patients, (confidence, bootstrap, seed))
        for at, name in enumerate(findings)
    }
    return results_table(results).append_column("group_size", pa.array(scarcer_side(truth, patients), pa.int64()))


def by_group(
    labels: Any,
    groups: Sequence[Any],
    patients: Any,
    attributes: Mapping[str, Sequence[Any]],
    confidence: float = 0.95,
    bootstrap: int = 500,
    seed: int = 0,
) -> pa.Table:
    """Return the macro area within each subgroup of test images, in rows named `attribute=value`.

    Args:
        labels: as for `by_finding`.
        groups: as there.
        patients: as there.
        attributes: attribute to (N,) the value of each image; None is `unknown`.
        confidence: of each interval by itself, not corrected for the number of subgroups.
        bootstrap: resamples of patients.
        seed: root of the resamples.

    Returns:
        `result.results_table`, and `group_size`: patients of the subgroup who have a finding or don't, whichever are
        fewer, the median over findings.
    """
    truth, people = np.asarray(labels, dtype=bool), np.asarray(patients)
    results, sizes = {}, []
    for attribute, of_images in attributes.items():
        names = np.array(["unknown" if name is None else str(name) for name in of_images], dtype=str)
        for name in np.unique(names):
            inside = names == name
            parts = [np.asarray(group, dtype=float)[:, inside] for group in groups]
            part = truth[inside], parts, people[inside]
            results[f"{attribute}={name}"] = _of(*part, (confidence, bootstrap, seed))
            sizes.append(int(np.median(scarcer_side(part[0], part[2]))))
    return results_table(results).append_column("group_size", pa.array(sizes, pa.int64()))


def _of(truth: Any, groups: Sequence[Any], patients: Any, options: tuple[float, int, int]) -> MetricResult:
    return repeated_auroc(truth, groups[0], patients, luck_of_training(truth, groups, patients), *options)
