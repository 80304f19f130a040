"""Turn threshold-free matches into verdicts. Pure and quick: a changed policy re-runs this and what follows."""

from collections.abc import Mapping
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.core.config import EvaluateConfig
from raydistill.core.store import Store
from raydistill.matching.policy import Policy, ThresholdPolicy
from raydistill.metrics.filtering import filter_metrics, selftest_metrics
from raydistill.stages.base import Context, Outcome, Stage


class Filter(Stage):
    """Inputs: `samples`, `matches` (the filter's eye), `policy`, optionally `selftest`.

    Output: `verdicts/part-00000.parquet`, one row a sample, and `metrics.json`.
    """

    version: ClassVar[int] = 2
    needs_ray: ClassVar[bool] = False
    config: EvaluateConfig

    def run(self, context: Context) -> Outcome:
        """Judge every sample and say how well the operating point holds on probes, strangers and planted copies."""
        policy = Policy(**context.inputs["policy"].read_json("policy.json"))
        verdicts = ThresholdPolicy(policy).judge(_with_failures(context.inputs))
        context.out.write_table("verdicts/part-00000.parquet", verdicts)
        matches = context.inputs["matches"]
        point = {
            "identity_threshold": policy.identity_threshold,
            "near_copy_threshold": policy.near_copy_threshold,
            "confidence": self.config.confidence,
        }
        real = ((matches / role).read_table() for role in ("probe", "calibration"))
        metrics = {"filter": filter_metrics(verdicts, *real, **point)}
        if "selftest" in context.inputs:
            planted = (context.inputs["selftest"] / "planted").read_table()
            agreement = (context.inputs["selftest"] / "agreement").read_json("agreement.json")
            metrics["selftest"] = selftest_metrics(planted, agreement, **point)
        dumped = {group: {k: m.model_dump(mode="json") for k, m in named.items()} for group, named in metrics.items()}
        context.out.write_json("metrics.json", dumped)
        kept = pc.sum(verdicts["keep"].cast("int64")).as_py() or 0
        return Outcome(counts={"rows": verdicts.num_rows, "kept": kept}, facts={"policy": policy.model_dump()})


def _with_failures(inputs: Mapping[str, Store]) -> pa.Table:
    """Give every sample a row of matches; null scores where no image was made."""
    ids = inputs["samples"].read_table(columns=["sample_id"]).rename_columns(["query_id"])
    matches = (inputs["matches"] / "samples").read_table(columns=["query_id", "score", "structure_score"])
    return ids.join(matches, "query_id", join_type="left outer").sort_by("query_id")
