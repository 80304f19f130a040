"""Was the search worth it? Its setting beside simple rules, on evaluation patients, with classifiers of fresh seeds."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import JUDGED
from raydistill.core.config import EvaluateConfig
from raydistill.core.errors import NothingToDo
from raydistill.core.progress import Progress, silent
from raydistill.core.section import Section
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.distributed.task import run_on_worker
from raydistill.matching.calibration import calibrate
from raydistill.matching.rules import simple_rules
from raydistill.metrics import classifier, utility
from raydistill.metrics.identification import rates
from raydistill.metrics.result import MetricResult
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.classifier import train_classifier
from raydistill.stages.images import pixels, read_sampled, rows_of

CHOSEN, AGAIN = "chosen", "chosen_again"
"""The search's setting, and the same once more with other seeds: what is between those two is luck."""
COLUMNS = ["image", "labels", "patient_id"]


class RulesNodeConfig(Section):
    """How sets of samples are compared."""

    evaluate: EvaluateConfig
    seeds: int


class Rules(Stage):
    """Inputs: `samples`, `verdicts`, `matches` (the filter's), `auditor` (its matches), `evaluation`, `findings`.

    Output: `metrics.json`: `rule_utility.<rule>`, `rule_regret.<rule>`, `rule_excess_risk.<rule>`, `rule_kept.<rule>`.
    """

    config: RulesNodeConfig

    def run(self, context: Context) -> Outcome:
        """Train and compare on a worker."""
        alone = Rules(self.node, self.config, {}, self.root_seed)
        work = partial(alone._measure, replace(context, progress=silent))
        return run_on_worker(work, self.config.evaluate.compute, context.progress)

    def _measure(self, context: Context, progress: Progress) -> Outcome:
        how, inputs = self.config.evaluate, context.inputs
        columns = ["sample_id", "image", "labels"]
        samples = read_sampled({"images": inputs["samples"]}, columns, how.max_images, context.seed)
        if not samples.num_rows:
            raise NothingToDo("no sample to choose from: the teacher made no image")
        samples = samples.sort_by("sample_id")
        ids = samples["sample_id"]
        matches = rows_of(inputs["matches"] / "samples", ids, JUDGED, "query_id")
        chosen = rows_of(inputs["verdicts"], ids, ["sample_id", "keep"], "sample_id")["keep"].to_numpy()
        strangers = (inputs["matches"] / "calibration").read_table()
        rules = {CHOSEN: chosen, AGAIN: chosen}
        rules |= simple_rules(matches, strangers, chosen, how.confidence, context.seed)
        audited = rows_of(inputs["auditor"] / "samples", ids, JUDGED, "query_id")
        metrics = _kept(rules, how) | _risks(rules, audited, inputs["auditor"], how)
        metrics |= self._utilities(context, rules, samples, progress)
        context.out.write_json("metrics.json", {name: one.model_dump(mode="json") for name, one in metrics.items()})
        return Outcome(counts={"samples": samples.num_rows, "rules": len(rules)})

    def _utilities(
        self, context: Context, rules: dict[str, NDArray[np.bool_]], samples: pa.Table, progress: Progress
    ) -> dict[str, MetricResult]:
        """Train the same classifier on what each rule keeps; hold each against the search's setting, image by image."""
        how = self.config.evaluate
        findings = context.inputs["findings"].read_json("findings.json")["findings"]
        real = read_sampled({"images": context.inputs["evaluation"]}, COLUMNS, how.max_images, context.seed)
        real = real.filter(real["labels"].is_valid())
        has_labels = samples["labels"].is_valid().to_numpy()
        if not findings or not real.num_rows or not has_labels.any():
            return {}
        images, labels = pixels(samples), [labels or [] for labels in samples["labels"].to_pylist()]
        taught, tested = classifier.label_matrix(labels, findings), pixels(real)
        truth = classifier.label_matrix(real["labels"].to_pylist(), findings)
        options = (real["patient_id"].to_numpy(), how.confidence, how.bootstrap, context.seed)
        scores, done, total = {}, 0, len(rules) * self.config.seeds
        for rule, keep in rules.items():
            rows, predicted = keep & has_labels, []
            for number in range(self.config.seeds if rows.any() else 0):
                # Every rule gets the same seeds; the setting's second training gets others.
                seed = derive_seed(context.seed, "again" if rule == AGAIN else "fresh", number)
                model = train_classifier(images[rows], taught[rows], how.probe_steps, seed, how.compute)
                predicted.append(classifier.predict(model, tested))
                done += 1
                progress(done, total, "classifiers")
            if predicted:
                scores[rule] = np.mean(predicted, axis=0)
        metrics = {f"rule_utility.{rule}": utility.macro_auroc(truth, own, *options) for rule, own in scores.items()}
        if CHOSEN in scores:
            for rule in scores.keys() - {CHOSEN}:
                regret = utility.paired_difference(truth, scores[rule], scores[CHOSEN], *options)
                metrics[f"rule_regret.{rule}"] = regret
        return metrics


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
    """Measure what each rule leaves behind, in the eye of the auditor, at its own threshold."""
    strangers, control = ((matches / role).read_table() for role in ("calibration", "evaluation"))
    people = strangers["query_patient_id"].to_pylist()
    threshold = calibrate(strangers["score"].to_numpy(), people, how.audit_fpir, how.confidence).threshold
    scores, nearest = audited["score"].to_numpy(), audited["nearest_patient_id"].to_numpy()
    controls: tuple[Any, Any] = control["score"].to_numpy(), control["query_patient_id"].to_numpy()
    return {
        f"rule_excess_risk.{rule}": rates(scores[keep], nearest[keep], *controls, threshold, how.confidence)[
            "excess_risk"
        ]
        for rule, keep in rules.items()
    }
