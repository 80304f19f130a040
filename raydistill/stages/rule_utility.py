"""How useful is what simple rules keep? Classifiers of fresh seeds learn from it, tested on evaluation patients."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.config import EvaluateConfig
from raydistill.core.seeds import derive_seed
from raydistill.matching.rules import Kept, random_drop
from raydistill.metrics.luck import Luck
from raydistill.metrics.probe import label_matrix
from raydistill.metrics.repeated import luck_of_training, repeated_auroc, repeated_difference
from raydistill.metrics.result import MetricResult
from raydistill.metrics.utility import paired_difference
from raydistill.stages.base import Context
from raydistill.stages.classifier import Lesson, Pupil, teach
from raydistill.stages.images import pixels, read_sampled

CHOSEN, AGAIN, DROP = "chosen", "chosen_again", "random_drop"
"""The search's setting; the same once more with other seeds, what is between those two is luck; as many by chance."""

COLUMNS = ["image", "labels", "patient_id"]

ENOUGH = 10
"""Classifiers of one rule by which their own variance is known: to a quarter, as the root of 1 / (2 * 9) is."""

Pupils = dict[str, list[Pupil]]
"""The classifiers of each rule."""


def utilities(
    context: Context, rules: Mapping[str, Kept], samples: pa.Table, how: EvaluateConfig, seeds: int
) -> dict[str, MetricResult]:
    """Train the same classifiers on what each rule keeps; hold each against the search's, image by image.

    Args:
        context: of the comparison.
        rules: which of the N samples each keeps, (N,).
        samples: `image` and `labels` of the N.
        how: the budget, and what is tested.
        seeds: classifiers of each rule.

    Returns:
        `rule_utility.<rule>` and `rule_regret.<rule>`, where anything can be learned and tested.
    """
    findings = context.inputs["findings"].read_json("findings.json")["findings"]
    real = read_sampled({"images": context.inputs["evaluation"]}, COLUMNS, how.max_images, context.seed)
    real = real.filter(real["labels"].is_valid())
    taught = samples.filter(samples["labels"].is_valid())
    if not findings or not real.num_rows or not taught.num_rows:
        return {}
    labels = label_matrix(taught["labels"].to_pylist(), findings)
    lesson = Lesson(pixels(taught), labels, pixels(real), how.probe_steps)
    truth = label_matrix(real["labels"].to_pylist(), findings)
    pupils, said = _answers(context, lesson, rules, samples["labels"].is_valid().to_numpy(), how, seeds)
    scores = {rule: [said[pupil] for pupil in own] for rule, own in pupils.items()}
    people = real["patient_id"].to_numpy()
    lucks = _lucks(truth, pupils, said, people)
    options = (how.confidence, how.bootstrap, context.seed)
    metrics = {
        f"rule_utility.{rule}": repeated_auroc(truth, own, people, lucks[rule], *options)
        for rule, own in scores.items()
    }
    others = [rule for rule in scores if rule != CHOSEN and CHOSEN in scores]
    # Whom it beats is said of all rules at once: together they are right as often as one would be (Bonferroni).
    several = sum(rule != AGAIN and pupils[rule] != pupils[CHOSEN] for rule in others)
    options = (1 - (1 - how.confidence) / max(1, several), *options[1:])
    for rule in others:
        pair = (truth, scores[CHOSEN], scores[rule], people)
        metrics[f"rule_regret.{rule}"] = (
            paired_difference(*pair, *options).with_note("the same samples are kept")
            if pupils[rule] == pupils[CHOSEN]
            else repeated_difference(*pair, lucks[CHOSEN], *options, luck_b=lucks[rule])
        )
    return metrics


def _answers(
    context: Context, lesson: Lesson, rules: Mapping[str, Kept], has_labels: Kept, how: EvaluateConfig, count: int
) -> tuple[Pupils, dict[Pupil, NDArray[np.float64]]]:
    """Return the classifiers of each rule that keeps anything that can be learned from, and what each says.

    Rules that keep the same have the same classifiers, trained once.
    """
    names: dict[bytes, str] = {}
    rows: dict[str, Kept] = {}
    pupils: Pupils = {}
    for number in range(count):
        seeds = {name: derive_seed(context.seed, name, number) for name in ("fresh", "again", "drop")}
        # Every rule gets the same seeds, and what is dropped by chance is other samples each time.
        kept = {**rules, AGAIN: rules[CHOSEN], DROP: random_drop(rules[CHOSEN], seeds["drop"])}
        for rule, keep in kept.items():
            taught = keep[has_labels]
            if taught.any():
                name = names.setdefault(taught.tobytes(), f"{rule}/{number}")
                rows[name] = taught
                pupils.setdefault(rule, []).append(Pupil(name, seeds["again" if rule == AGAIN else "fresh"]))
    each = list(dict.fromkeys(chain(*pupils.values())))
    said = teach(lesson, rows, each, how.compute, context.work, context.progress)
    return pupils, dict(zip(each, said, strict=True))


def _lucks(
    truth: NDArray[np.float32], pupils: Pupils, said: Mapping[Pupil, NDArray[np.float64]], people: NDArray[Any]
) -> dict[str, Luck]:
    """Return the luck of each rule: its own where it keeps other samples each time, or has classifiers enough.

    That of the others is pooled: of three trainings nobody knows how they vary.
    """
    alike: dict[str, list[NDArray[np.float64]]] = {}
    for pupil, answers in said.items():
        # What the same samples taught differs by seeds alone.
        alike.setdefault(pupil.rows, []).append(answers)
    shared, lucks = luck_of_training(truth, alike.values(), people), {}
    for rule, own in pupils.items():
        is_drawn = rule == DROP and own != pupils.get(CHOSEN)
        group = [said[pupil] for pupil in own] if is_drawn else alike[own[0].rows]
        lucks[rule] = luck_of_training(truth, [group], people) if is_drawn or len(group) >= ENOUGH else shared
    return lucks
