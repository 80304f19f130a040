"""One trial of the search: what a setting of the filter keeps, what that is good for, and whom it shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.core.config import FilterConfig
from raydistill.core.searching import ShortStudent, TuneConfig
from raydistill.core.section import Compute, Section
from raydistill.matching.calibration import calibrate
from raydistill.matching.policy import Policy, judged, make_policy, policy_at
from raydistill.matching.selection import Selection, in_the_way, left_out
from raydistill.metrics.intervals import korn_graubard
from raydistill.metrics.probe import FindingsProbe
from raydistill.metrics.utility import macro_auroc, supported
from raydistill.stages.outcomes import BREAKS
from raydistill.stages.space import setting_of


class TuneNodeConfig(Section):
    """The search's settings and how its numbers are estimated."""

    tune: TuneConfig
    filter: FilterConfig
    audit_fpir: float
    audit_near_copy_fpir: float
    confidence: float
    network_steps: int
    compute: Compute
    student: ShortStudent | None = None


@dataclass(frozen=True)
class Evidence:
    """All a trial reads, computed once and shared through the object store.

    Args:
        matches: the filter's matches of the samples that are counted.
        candidates: `selection.SELECTED` of them.
        looked: rows of the N samples among them that are looked at, in the order of every array here.
        panel: rows of a few of these N, drawn by chance, of which every trial says whether it keeps them.
        strangers: the filter's matches of calibration images.
        judge: the judge's matches of the N, columns.JUDGED.
        judge_strangers: the judge's matches of calibration images, columns.MATCHES.
        images: uint8 (N, R, R), the samples; `test_images` (M, R, R), calibration images. None (0, 1, 1) while trials
            go on, which don't look at pictures.
        features: (N, D) float32 of the samples; `labels` (N, F) what was asked of them, where `has_labels` (N,).
        prompts: (N,) texts that they were asked for by.
        test_features: (M, D) float32 of calibration images; `test_labels` (M, F), `test_patients` (M,).
    """

    matches: pa.Table
    candidates: pa.Table
    looked: NDArray[np.int64]
    panel: NDArray[np.int64]
    strangers: pa.Table
    judge: pa.Table
    judge_strangers: pa.Table
    images: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    has_labels: NDArray[np.bool_]
    prompts: NDArray[Any]
    test_features: NDArray[np.float32]
    test_labels: NDArray[np.float32]
    test_patients: NDArray[Any]

    def panel_ids(self) -> list[str]:
        """Return the ids of the panel's samples."""
        ids: list[str] = self.judge["query_id"].take(pa.array(self.panel)).to_pylist()
        return ids

    @property
    def can_teach(self) -> bool:
        """Whether any utility can be measured: there is something to learn from, and enough to test on."""
        return bool(self.has_labels.any() and supported(self.test_labels.astype(bool), self.test_patients).any())

    @property
    def calibration_patients(self) -> int:
        """How many people thresholds are set on."""
        count: int = pc.count_distinct(self.strangers["query_patient_id"]).as_py()
        return count

    @property
    def supported_fpir(self) -> float:
        """The smallest FPIR that the calibration patients support."""
        return 1 / (self.calibration_patients + 1)

    @property
    def most_sharing(self) -> int | None:
        """How many train patients share a sample's prompt, at most; None where no prompt says anything."""
        most: int | None = pc.max(self.candidates["prompt_patients"]).as_py()
        return most


def policy_for(setting: Mapping[str, Any], evidence: Evidence, config: TuneNodeConfig) -> Policy:
    """Return the policy of a whole setting."""
    fpirs = (setting["target_fpir"], setting["near_copy_fpir"])
    selection = Selection(**{name: setting[name] for name in Selection.model_fields if name in setting})
    return policy_at(evidence.strangers, *fpirs, config.confidence).model_copy(update={"selection": selection})


def evaluate_setting(tried: dict[str, float], evidence: Evidence, config: TuneNodeConfig) -> dict[str, Any]:
    """Measure one setting of the filter.

    Args:
        tried: what is searched of the settings.
        evidence: what every trial shares.
        config: bounds and estimators.

    Returns:
        The whole setting, `kept_share`, `utility` (macro AUROC; NaN where nothing is kept that can be learned from),
        `objective` (the utility, or in a cohort without findings the share that is kept), `risk` and `risk_high` (the
        share of what is kept that the judge takes for a train patient, and its upper bound), `near_copies_high` (that
        of near-copies), `constraints`, and as columns `breaks_<bound>` (by how much, each), `excess` (all together),
        `feasible`, and `dropped` (who of the panel).
    """
    limits, setting = config.tune, setting_of(config.tune.space, tried)
    policy = policy_for(setting, evidence, config)
    keep = kept_by(policy, evidence, config)
    of = in_the_way(evidence.candidates, policy.selection)[evidence.looked]
    kept_share = float(keep.sum() / max(1, of.sum()))
    risk, risk_high = _rate(evidence, keep, "score", config.audit_fpir, config.confidence)
    copies_high = _rate(evidence, keep, "structure_score", config.audit_near_copy_fpir, config.confidence)[1]
    utility = _utility(evidence, keep, config.confidence)
    constraints = {
        "risk": risk_high - limits.max_reidentification_rate,
        "near_copies": copies_high - limits.max_near_copy_rate,
        "kept_share": limits.min_kept_share - kept_share,
        "taught": float(evidence.can_teach and utility is None),
    }
    excess = sum(max(0.0, broken) for broken in constraints.values())
    return {
        **setting,
        "kept_share": kept_share,
        "utility": float("nan") if utility is None else utility,
        "risk": risk,
        "risk_high": risk_high,
        "near_copies_high": copies_high,
        "constraints": constraints,
        **{BREAKS + bound: by for bound, by in constraints.items()},
        "excess": excess,
        "feasible": excess == 0.0,
        "objective": utility or (0.0 if evidence.can_teach else kept_share),
        "dropped": [name for name, row in zip(evidence.panel_ids(), evidence.panel, strict=True) if not keep[row]],
    }


def kept_by(policy: Policy, evidence: Evidence, config: TuneNodeConfig) -> NDArray[np.bool_]:
    """Say which of the samples that are looked at (N,) a policy and its selection keep, of all that are counted."""
    keep = judged(make_policy(config.filter, policy), evidence.matches)["keep"].to_numpy(zero_copy_only=False).copy()
    if not policy.selection.is_everything:
        keep[keep] = left_out(evidence.candidates.filter(pa.array(keep)), policy.selection) == ""
    return np.asarray(keep[evidence.looked])


def _rate(
    evidence: Evidence, keep: NDArray[np.bool_], column: str, fpir: float, confidence: float
) -> tuple[float, float]:
    """Return how many of the kept samples reach a threshold of the judge's, and the upper bound; 1 where none is kept.

    Nothing is taken off for chance. How often samples that show nobody would be taken for somebody is not strangers'
    rate (decision 34), and the people who could tell, an unseen gallery, are kept from the search (decision 38).
    """
    if not keep.any():
        return 1.0, 1.0
    kept, strangers = evidence.judge.filter(pa.array(keep)), evidence.judge_strangers
    people = strangers["query_patient_id"].to_numpy()
    threshold = calibrate(strangers[column].to_numpy(), people, fpir, confidence).threshold
    rate = korn_graubard(kept[column].to_numpy() >= threshold, kept["nearest_patient_id"].to_numpy(), confidence)
    return rate.value, rate.high


def _utility(evidence: Evidence, keep: NDArray[np.bool_], confidence: float) -> float | None:
    """Return the macro AUROC on calibration patients of a linear probe fitted on the kept samples; None without any."""
    if not (keep & evidence.has_labels).any() or not evidence.can_teach:
        return None
    return macro_auroc(
        evidence.test_labels,
        probed(evidence, keep),
        evidence.test_patients,
        confidence=confidence,
        bootstrap=0,
        seed=0,
    ).value


def probed(evidence: Evidence, keep: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return what a linear probe that learned from kept samples (N,) says of calibration images: probabilities (M, F).

    Some of what is kept has labels.
    """
    taught = keep & evidence.has_labels
    return FindingsProbe().fit(evidence.features[taught], evidence.labels[taught]).predict(evidence.test_features)
