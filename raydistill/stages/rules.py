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
from raydistill.matching.policy import Policy
from raydistill.matching.rules import simple_rules
from raydistill.matching.selection import WAY, in_the_way
from raydistill.metrics.result import MetricResult
from raydistill.stages.auditor import Auditor
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.images import read_sampled, rows_of
from raydistill.stages.rule_utility import CHOSEN, utilities


class RulesNodeConfig(Section):
    """How sets of samples are compared."""

    evaluate: EvaluateConfig
    seeds: int


class Rules(Stage):
    """Inputs: `samples`, `verdicts`, `policy`, `matches`, those in `auditor`'s eye, `train`, `evaluation`, `findings`.

    Output: `metrics.json`: `rule_utility.<rule>`, `rule_regret.<rule>`, `rule_excess_risk.<rule>`, `rule_kept.<rule>`.
    """

    version: ClassVar[int] = 7
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
        auditor = Auditor.of({**inputs, "matches": inputs["auditor"]}, how)
        metrics = _kept(rules, how) | _risks(rules, audited, auditor)
        metrics |= utilities(context, rules, samples, how, self.config.seeds)
        context.out.write_json("metrics.json", {name: one.model_dump(mode="json") for name, one in metrics.items()})
        return Outcome(counts={"samples": samples.num_rows, "rules": len(rules)})


def _kept(rules: dict[str, NDArray[np.bool_]], how: EvaluateConfig) -> dict[str, MetricResult]:
    return {
        f"rule_kept.{rule}": MetricResult(
            value=float(keep.mean()), n=len(keep), unit="share of samples", estimator="count", confidence=how.confidence
        )
        for rule, keep in rules.items()
    }


def _risks(rules: dict[str, NDArray[np.bool_]], audited: pa.Table, auditor: Auditor) -> dict[str, MetricResult]:
    """Measure what each rule leaves behind as an audit does."""
    return {
        f"rule_excess_risk.{rule}": auditor.rates(audited.filter(pa.array(keep)))["excess_risk"]
        for rule, keep in rules.items()
    }
