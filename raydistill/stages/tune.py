"""Search the filter's settings with Ray Tune: the most useful data set whose risk stays inside its bound.

Utility is measured on calibration patients, risk by the judge, a network the filter never used. Evaluation patients
are not an input of this stage.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import JUDGED
from raydistill.core.config import FilterConfig, TuneConfig
from raydistill.core.errors import NothingToDo
from raydistill.core.section import Section
from raydistill.diffusion.features import public_digest, public_features
from raydistill.distributed.tune import Search, search
from raydistill.matching.calibration import calibrate
from raydistill.matching.policy import judged, make_policy, policy_at
from raydistill.metrics.classifier import FindingsProbe, label_matrix
from raydistill.metrics.identification import rates
from raydistill.metrics.utility import macro_auroc
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.images import pixels, read_sampled, rows_of

INFEASIBLE = -1.0
"""Score of a setting that breaks a bound, less by how much it breaks it: below every feasible AUROC."""


class TuneNodeConfig(Section):
    """The search's settings and how its numbers are estimated."""

    tune: TuneConfig
    filter: FilterConfig
    audit_fpir: float
    confidence: float


@dataclass(frozen=True)
class Evidence:
    """All a trial reads, computed once and shared through the object store.

    Args:
        matches: the filter's matches of the samples, in the order of every array here.
        strangers: the filter's matches of calibration images.
        judge_scores: (N,) the judge's scores of the samples, with `judge_patients` (N,) nearest by it.
        judge_strangers: (M,) the judge's scores of calibration images, with `stranger_patients` (M,).
        features: (N, D) float32 of the samples; `labels` (N, F) what was asked of them, where `has_labels` (N,).
        test_features: (M, D) float32 of calibration images; `test_labels` (M, F), `test_patients` (M,).
    """

    matches: pa.Table
    strangers: pa.Table
    judge_scores: NDArray[np.float32]
    judge_patients: NDArray[Any]
    judge_strangers: NDArray[np.float32]
    stranger_patients: NDArray[Any]
    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    has_labels: NDArray[np.bool_]
    test_features: NDArray[np.float32]
    test_labels: NDArray[np.float32]
    test_patients: NDArray[Any]


class Tune(Stage):
    """Inputs: `samples`, `calibration`, `findings`, `matches` (the filter's eye), `judge` (the judge's).

    Output: `policy/policy.json`, `trials/part-00000.parquet`.
    """

    version: ClassVar[int] = 6
    config: TuneNodeConfig

    def key_config(self) -> dict[str, Any]:
        """Put the public weights that look at the images into the key."""
        return {**super().key_config(), "features": public_digest()}

    def run(self, context: Context) -> Outcome:
        """Search, choose, and write the whole frontier beside the choice."""
        evidence = read_evidence(context, self.config.tune)
        space = Search(
            bounds={"target_fpir": self.config.tune.target_fpir, "near_copy_fpir": self.config.tune.near_copy_fpir},
            num_trials=self.config.tune.num_trials,
            max_concurrent=self.config.tune.max_concurrent_trials,
            seed=context.seed,
        )
        trials = search(evaluate_setting, {"config": self.config}, evidence, space, context.work, context.progress)
        table = pd.DataFrame(trials).sort_values(["target_fpir", "near_copy_fpir"], ignore_index=True)
        table["chosen"] = table.index == choose(table)
        best = table[table["chosen"]].iloc[0]
        policy = policy_at(
            evidence.strangers,
            float(best["target_fpir"]),
            float(best["near_copy_fpir"]),
            self.config.confidence,
        )
        policy = policy.model_copy(update={"is_feasible": bool(best["feasible"])})
        context.out.write_json("policy/policy.json", policy.model_dump(mode="json"))
        context.out.write_table("trials/part-00000.parquet", pa.Table.from_pandas(table, preserve_index=False))
        chosen = {name: float(best[name]) for name in ("target_fpir", "near_copy_fpir", "utility", "risk_high")}
        return Outcome(
            counts={"trials": len(table), "feasible": int(table["feasible"].sum())},
            facts={"chosen": chosen, "chosen_is_feasible": bool(best["feasible"])},
        )


def choose(table: pd.DataFrame) -> int:
    """Return the row of the best trial: most useful among the feasible, else the one nearest to feasible.

    Equal objectives go to the setting with less risk, then to the one that comes first in the table.
    """
    order = table.sort_values(["objective", "risk_high"], ascending=[False, True], kind="stable")
    return int(order.index[0])


def evaluate_setting(setting: dict[str, float], evidence: Evidence, config: TuneNodeConfig) -> dict[str, float]:
    """Measure one setting of the filter.

    Args:
        setting: `target_fpir` and `near_copy_fpir`.
        evidence: what every trial shares.
        config: bounds and estimators.

    Returns:
        `objective` to maximise, with `kept_share`, `utility` (macro AUROC; NaN in a cohort without findings, where the
        share that is kept is maximised), `risk` and `risk_high` (the judge's excess risk of what is kept and its upper
        bound), `feasible` and the setting.
    """
    limits, confidence = config.tune, config.confidence
    thresholds = policy_at(evidence.strangers, setting["target_fpir"], setting["near_copy_fpir"], confidence)
    verdicts = judged(make_policy(config.filter, thresholds), evidence.matches)
    keep = verdicts["keep"].to_numpy(zero_copy_only=False)
    kept_share = float(keep.mean())
    risk, risk_high = _risk(evidence, keep, config)
    utility = _utility(evidence, keep, confidence)
    excess = max(0.0, risk_high - limits.max_excess_risk) + max(0.0, limits.min_kept_share - kept_share)
    feasible = excess == 0.0
    return {
        **setting,
        "kept_share": kept_share,
        "utility": float("nan") if utility is None else utility,
        "risk": risk,
        "risk_high": risk_high,
        "feasible": feasible,
        "objective": (kept_share if utility is None else utility) if feasible else INFEASIBLE - excess,
    }


def _risk(evidence: Evidence, keep: NDArray[np.bool_], how: TuneNodeConfig) -> tuple[float, float]:
    """Return the judge's excess risk of the kept samples and its upper bound; 1 when nothing is kept."""
    if not keep.any():
        return 1.0, 1.0
    point = calibrate(evidence.judge_strangers, evidence.stranger_patients, how.audit_fpir, how.confidence)
    result = rates(
        evidence.judge_scores[keep],
        evidence.judge_patients[keep],
        evidence.judge_strangers,
        evidence.stranger_patients,
        point.threshold,
        confidence=how.confidence,
    )["excess_risk"]
    if result.value is None or result.interval is None:
        return 1.0, 1.0
    return result.value, result.interval[1]


def _utility(evidence: Evidence, keep: NDArray[np.bool_], confidence: float) -> float | None:
    """Return the macro AUROC on calibration patients of a linear probe fitted on the kept samples; None without any."""
    taught = keep & evidence.has_labels
    if not taught.any() or not evidence.test_labels.size:
        return None
    probe = FindingsProbe().fit(evidence.features[taught], evidence.labels[taught])
    return macro_auroc(
        evidence.test_labels,
        probe.predict(evidence.test_features),
        evidence.test_patients,
        confidence=confidence,
        bootstrap=0,
        seed=0,
    ).value


def read_evidence(context: Context, config: TuneConfig) -> Evidence:
    """Read and compute once what all trials share."""
    inputs = context.inputs
    columns, most = ["sample_id", "image", "labels"], config.max_samples
    samples = read_sampled({"images": inputs["samples"]}, columns, most, context.seed).sort_by("sample_id")
    if not samples.num_rows:
        raise NothingToDo("no sample to filter: the teacher made no image")
    columns = ["image", "labels", "patient_id"]
    real = read_sampled({"images": inputs["calibration"]}, columns, most, context.seed)
    real = real.filter(real["labels"].is_valid())
    findings = inputs["findings"].read_json("findings.json")["findings"]
    matches, judge = (
        rows_of(inputs[eye] / "samples", samples["sample_id"], JUDGED, "query_id") for eye in ("matches", "judge")
    )
    strangers = (inputs["matches"] / "calibration").read_table()
    judge_strangers = (inputs["judge"] / "calibration").read_table()
    return Evidence(
        matches=matches,
        strangers=strangers,
        judge_scores=judge["score"].to_numpy(),
        judge_patients=judge["nearest_patient_id"].to_numpy(),
        judge_strangers=judge_strangers["score"].to_numpy(),
        stranger_patients=judge_strangers["query_patient_id"].to_numpy(),
        features=public_features(pixels(samples)),
        labels=label_matrix([labels or [] for labels in samples["labels"].to_pylist()], findings),
        has_labels=samples["labels"].is_valid().to_numpy(),
        test_features=public_features(pixels(real)) if real.num_rows else np.zeros((0, 0), np.float32),
        test_labels=label_matrix(real["labels"].to_pylist(), findings),
        test_patients=real["patient_id"].to_numpy(),
    )
