"""Was the search worth it? Its setting beside simple rules, on evaluation patients, with classifiers of fresh seeds.

Where samples were made in several ways, rules choose among those made in the one that the search chose.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import AUDITED, JUDGED
from raydistill.core.config import EvaluateConfig
from raydistill.core.errors import NothingToDo
from raydistill.core.section import Compute, Section
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.matching.calibration import calibrate
from raydistill.matching.policy import Policy
from raydistill.matching.rules import random_drop, simple_rules
from raydistill.matching.selection import WAY, in_the_way
from raydistill.metrics import classifier
from raydistill.metrics.identification import rates
from raydistill.metrics.repeated import luck_of_training, repeated_auroc, repeated_difference
from raydistill.metrics.result import MetricResult
from raydistill.stages.auditor import likeness_of, numbers
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.classifier import Lesson, Pupil, teach
from raydistill.stages.images import pixels, read_sampled, rows_of

CHOSEN, AGAIN, DROP = "chosen", "chosen_again", "random_drop"
"""The search's setting; the same once more with other seeds, what is between those two is luck; as many by chance."""
COLUMNS = ["image", "labels", "patient_id"]


class RulesNodeConfig(Section):
    """How sets of samples are compared."""

    evaluate: EvaluateConfig
    seeds: int


class Rules(Stage):
    """Inputs: `samples`, `verdicts`, `policy`, `matches` (the filter's), `auditor`'s, `evaluation`, `findings`.

    Output: `metrics.json`: `rule_utility.<rule>`, `rule_regret.<rule>`, `rule_excess_risk.<rule>`, `rule_kept.<rule>`.
    """

    version: ClassVar[int] = 5
    config: RulesNodeConfig

    @property
    def compute(self) -> Compute:
        """What each classifier's worker takes."""
        return self.config.evaluate.compute

    def run(self, context: Context) -> Outcome:
        """Choose, measure and compare."""
        how, inputs = self.config.evaluate, context.inputs
        columns, policy = ["sample_id", "image", "labels", *WAY], Policy(**inputs["policy"].read_json("policy.json"))
        samples = read_sampled({"images": inputs["samples"]}, columns, how.max_images, context.seed)
        samples = samples.filter(pa.array(in_the_way(samples, policy.selection))).sort_by("sample_id")
        if not samples.num_rows:
            raise NothingToDo("no sample to choose from: the teacher made no image")
        ids = samples["sample_id"]
        matches = rows_of(inputs["matches"] / "samples", ids, JUDGED, "query_id")
        chosen = rows_of(inputs["verdicts"], ids, ["sample_id", "keep"], "sample_id")["keep"].to_numpy()
        strangers = (inputs["matches"] / "calibration").read_table()
        rules = {CHOSEN: chosen} | simple_rules(matches, strangers, chosen, how.confidence, context.seed)
        audited = rows_of(inputs["auditor"] / "samples", ids, AUDITED, "query_id")
        metrics = _kept(rules, how) | _risks(rules, audited, inputs["auditor"], how)
        metrics |= self._utilities(context, rules, samples)
        context.out.write_json("metrics.json", {name: one.model_dump(mode="json") for name, one in metrics.items()})
        return Outcome(counts={"samples": samples.num_rows, "rules": len(rules)})

    def _utilities(
        self, context: Context, rules: dict[str, NDArray[np.bool_]], samples: pa.Table
    ) -> dict[str, MetricResult]:
        """Train the same classifiers on what each rule keeps; hold each against the search's, image by image."""
        how = self.config.evaluate
        findings = context.inputs["findings"].read_json("findings.json")["findings"]
        real = read_sampled({"images": context.inputs["evaluation"]}, COLUMNS, how.max_images, context.seed)
        real = real.filter(real["labels"].is_valid())
        taught = samples.filter(samples["labels"].is_valid())
        if not findings or not real.num_rows or not taught.num_rows:
            return {}
        labels = classifier.label_matrix(taught["labels"].to_pylist(), findings)
        lesson = Lesson(pixels(taught), labels, pixels(real), how.probe_steps)
        truth = classifier.label_matrix(real["labels"].to_pylist(), findings)
        scores = self._answers(context, lesson, rules, samples["labels"].is_valid().to_numpy())
        alike: dict[str, list[NDArray[np.float64]]] = {}
        for rule, own in scores.items():
            # The setting's second trainings differ from its first by their seeds alone.
            alike.setdefault(CHOSEN if rule == AGAIN else rule, []).extend(own)
        people = real["patient_id"].to_numpy()
        luck = luck_of_training(truth, alike.values(), people)
        options = (people, luck, how.confidence, how.bootstrap, context.seed)
        metrics = {f"rule_utility.{rule}": repeated_auroc(truth, own, *options) for rule, own in scores.items()}
        if CHOSEN in scores:
            # Whom it beats is said of all rules at once: together they are right as often as one would be (Bonferroni).
            single = 1 - (1 - how.confidence) / max(1, len(scores.keys() - {CHOSEN, AGAIN}))
            for rule in scores.keys() - {CHOSEN}:
                lost = repeated_difference(truth, scores[CHOSEN], scores[rule], *options[:2], single, *options[3:])
                metrics[f"rule_regret.{rule}"] = lost
        return metrics

    def _answers(
        self, context: Context, lesson: Lesson, rules: dict[str, NDArray[np.bool_]], has_labels: NDArray[np.bool_]
    ) -> dict[str, list[NDArray[np.float64]]]:
        """Return what the classifiers of each rule say, where it keeps anything that can be learned from."""
        rows, pupils, owners = {}, [], []
        for number in range(self.config.seeds):
            seeds = {name: derive_seed(context.seed, name, number) for name in ("fresh", "again", "drop")}
            # Every rule gets the same seeds, and what is dropped by chance is other samples each time.
            kept = rules | {AGAIN: rules[CHOSEN], DROP: random_drop(rules[CHOSEN], seeds["drop"])}
            for rule, keep in kept.items():
                if keep[has_labels].any():
                    name = f"{rule}/{number}"
                    rows[name] = keep[has_labels]
                    pupils.append(Pupil(name, seeds["again" if rule == AGAIN else "fresh"]))
                    owners.append(rule)
        said = teach(lesson, rows, pupils, self.config.evaluate.compute, context.work, context.progress)
        return {rule: [own for own, whose in zip(said, owners, strict=True) if whose == rule] for rule in owners}


def _kept(rules: dict[str, NDArray[np.bool_]], how: EvaluateConfig) -> dict[str, MetricResult]:
    return {
        f"rule_kept.{rule}": MetricResult(
            value=float(keep.mean()), n=len(keep), unit="share of samples", estimator="count", confidence=how.confidence
        )
        for rule, keep in rules.items()
    }


def _risks(
    rules: dict[str, NDArray[np.bool_]], audited: pa.Table, matches: Store, how: EvaluateConfig
) -> dict[str, MetricResult]:
    """Measure what each rule leaves behind, in the eye of the auditor, at its own threshold, as an audit does."""
    strangers, control = ((matches / role).read_table() for role in ("calibration", "evaluation"))
    people = strangers["query_patient_id"].to_pylist()
    threshold = calibrate(strangers["score"].to_numpy(), people, how.audit_fpir, how.confidence).threshold
    metrics = {}
    for rule, keep in rules.items():
        kept = audited.filter(pa.array(keep))
        found = rates(
            numbers(kept, "score"),
            numbers(kept, "nearest_patient_id"),
            numbers(control, "score"),
            numbers(control, "query_patient_id"),
            threshold,
            how.confidence,
            likeness_of(kept, strangers, "unseen_score", threshold, how.confidence),
        )
        metrics[f"rule_excess_risk.{rule}"] = found["excess_risk"]
    return metrics
