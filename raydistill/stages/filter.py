"""Turn threshold-free matches into verdicts. Pure and quick: a changed policy re-runs this and what follows."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.core.columns import JUDGED
from raydistill.core.config import Config, FilterConfig
from raydistill.core.errors import InputError
from raydistill.core.section import Section
from raydistill.core.store import Store
from raydistill.matching.cross_fit import CrossFit
from raydistill.matching.policy import MatchPolicy, Policy, judged, make_policy
from raydistill.metrics.filtering import filter_metrics, selftest_metrics
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.selecting import not_selected, with_reasons

ANY_THRESHOLDS = Policy(identity_threshold=0.0, near_copy_threshold=0.0, target_fpir=0.05, near_copy_fpir=0.05)
"""Stand in while nothing is calibrated yet, to see whether a policy can be made."""


class FilterNodeConfig(Section):
    """What judges, the confidence of the intervals that say how well, and whether the policy's selection is asked."""

    filter: FilterConfig
    confidence: float
    selects: bool = False


class Filter(Stage):
    """Inputs: `samples`, `matches` (the filter's eye), both perhaps with more (`more_…`), `policy`, maybe `selftest`.

    Also `sharing`, where the policy's selection is asked. Output: `verdicts/part-*.parquet`, one row a sample in shards
    like theirs; `planted/part-00000.parquet`, one row a planted picture; `metrics.json`.
    """

    version: ClassVar[int] = 9
    config: FilterNodeConfig

    def check(self, config: Config) -> None:
        """Refuse somebody's own policy that can't be imported."""
        make_policy(self.config.filter, ANY_THRESHOLDS)

    def run(self, context: Context) -> Outcome:
        """Judge every sample and say how well the operating point holds on probes, strangers and planted copies."""
        thresholds = Policy(**context.inputs["policy"].read_json("policy.json"))
        policy, confidence = make_policy(self.config.filter, thresholds), self.config.confidence
        left_out = self._left_out(context.inputs, policy, thresholds)
        reasons: Counter[str] = Counter()
        for prefix in ("", "more_"):
            for shard, matches in _matched(context.inputs, prefix):
                verdicts = with_reasons(judged(policy, matches), left_out)
                context.out.write_table(f"verdicts/{shard}", verdicts)
                reasons.update(verdicts["reason"].to_pylist())
        probe, calibration = ((context.inputs["matches"] / role).read_table() for role in ("probe", "calibration"))
        fitted = CrossFit(self.config.filter, thresholds, calibration, confidence)
        flags = {
            "known": _drops(judged(policy, probe)),
            "strangers": _drops(fitted.judged(calibration, "query_patient_id")),
        }
        metrics = {"filter": filter_metrics(reasons, probe, calibration, **flags, confidence=confidence)}
        if "selftest" in context.inputs:
            planted = (context.inputs["selftest"] / "planted").read_table()
            innocent = planted["source_role"].to_numpy() == "calibration"
            copies, others = planted.filter(pa.array(~innocent)), planted.filter(pa.array(innocent))
            planted = pa.concat_tables([copies, others])
            of_planted = pa.concat_tables([judged(policy, copies), fitted.judged(others, "patient_id")])
            context.out.write_table("planted/part-00000.parquet", of_planted)
            agreement = (context.inputs["selftest"] / "agreement").read_json("agreement.json")
            metrics["selftest"] = selftest_metrics(planted, _drops(of_planted), agreement, confidence)
        dumped = {group: {k: m.model_dump(mode="json") for k, m in named.items()} for group, named in metrics.items()}
        context.out.write_json("metrics.json", dumped)
        counts = {"rows": reasons.total(), "kept": reasons["kept"]}
        return Outcome(counts=counts, facts={"policy": thresholds.model_dump()})

    def _left_out(self, inputs: Mapping[str, Store], policy: MatchPolicy, thresholds: Policy) -> dict[str, str]:
        """Ask the selection, of the samples that a student is to be trained on."""
        if not self.config.selects:
            return {}
        stores = [
            (inputs[f"{prefix}samples"], inputs[f"{prefix}matches"] / "samples")
            for prefix in ("", "more_")
            if f"{prefix}samples" in inputs
        ]
        sets = [(samples, matches, samples.shards()) for samples, matches in stores]
        return not_selected(sets, inputs["sharing"], policy, thresholds.selection)


def _drops(verdicts: pa.Table) -> NDArray[np.bool_]:
    return np.asarray(~verdicts["keep"].to_numpy(zero_copy_only=False))


def _matched(inputs: Mapping[str, Store], prefix: str) -> Iterator[tuple[str, pa.Table]]:
    """Yield every shard of samples with a row of matches for each; nulls where no image was made."""
    if f"{prefix}samples" not in inputs:
        return
    samples, matches = inputs[f"{prefix}samples"], inputs[f"{prefix}matches"] / "samples"
    for shard in samples.shards():
        asked = samples.read_table(shard, columns=["sample_id", "failure"]).rename_columns(["query_id", "failure"])
        found = matches.read_table(shard, columns=list(JUDGED))
        table = asked.join(found, "query_id", join_type="left outer").sort_by("query_id")
        lost = pc.and_(pc.is_null(table["failure"]), pc.is_null(table["score"]))
        if pc.any(lost).as_py():
            first = table.filter(lost)["query_id"][0]
            raise InputError(f"{(matches / shard).uri} has no match of sample {first}, of which there is an image")
        yield shard, table.drop_columns(["failure"])
