"""From scores to verdicts: every sample keeps its row and gets a reason."""

from collections import Counter
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from raydistill.core.columns import JUDGED, VERDICTS
from raydistill.core.config import FilterConfig
from raydistill.core.errors import InputError
from raydistill.core.imports import build
from raydistill.matching.calibration import calibrate
from raydistill.matching.selection import Selection

REASONS = ("kept", "identity", "near_copy", "identity+near_copy", "failed")
"""Every reason of a `ThresholdPolicy`'s verdicts; only `kept` keeps."""


class Policy(BaseModel):
    """Thresholds of the filter. A sample that reaches either is dropped.

    Attributes:
        identity_threshold: on `score`.
        near_copy_threshold: on `structure_score`.
        target_fpir: at which FPIR the identity threshold was set; for the record.
        near_copy_fpir: at which share of flagged strangers the near-copy threshold was set; for the record.
        selection: how many of a kind are kept of what passes the thresholds.
        is_feasible: whether the search found a setting that keeps its bounds; of none, this is the nearest.
        broken: where it found none, how many settings break which bound.
        note: what the calibration had to say about either.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity_threshold: float
    near_copy_threshold: float
    target_fpir: float
    near_copy_fpir: float
    selection: Selection = Selection()
    is_feasible: bool = True
    broken: str = ""
    note: str = ""


@runtime_checkable
class MatchPolicy(Protocol):
    """Decides which samples may be kept. An extension point; the factory is called with `thresholds`, a `Policy`.

    The same policy is asked about real queries and planted near-copies: what it would drop of those is the filter's
    FPIR, TPIR, sensitivity and false flag rate. So a row's verdict depends on that row alone.
    """

    def judge(self, matches: pa.Table) -> pa.Table:
        """Give every row of `matches` (columns.JUDGED) one row of columns.VERDICTS, in the same order.

        `keep` is true where `reason` is `kept`, and nowhere else.
        """


class ThresholdPolicy:
    """Drops what reaches either threshold. A `MatchPolicy`.

    Args:
        thresholds: the thresholds.
    """

    def __init__(self, thresholds: Policy) -> None:
        self.thresholds = thresholds

    def judge(self, matches: pa.Table) -> pa.Table:
        """Judge samples.

        Args:
            matches: `query_id`, `score` and `structure_score`; a null or NaN score is a sample that failed.

        Returns:
            columns.VERDICTS, one row a row, in the same order.

        Raises:
            InputError: when a sample has two rows.
        """
        ids = matches["query_id"].to_pylist()
        if len(set(ids)) < len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise InputError(f"matches: sample {twice} has more than one row; its shard was written twice")
        score, structure = (_floats(matches[name]) for name in ("score", "structure_score"))
        failed = np.isnan(score) | np.isnan(structure)
        place = (score >= self.thresholds.identity_threshold) + 2 * (structure >= self.thresholds.near_copy_threshold)
        place[failed] = REASONS.index("failed")
        columns = {
            "sample_id": ids,
            "keep": place == REASONS.index("kept"),
            "reason": [REASONS[i] for i in place],
            "score": pa.array(score, from_pandas=True),
            "structure_score": pa.array(structure, from_pandas=True),
        }
        return pa.table(columns, schema=VERDICTS)


def policy_at(calibration_matches: pa.Table, target_fpir: float, near_copy_fpir: float, confidence: float) -> Policy:
    """Set both thresholds on the matches of people nobody trained on.

    Args:
        calibration_matches: columns.MATCHES of calibration images.
        target_fpir: share of strangers the identity threshold may flag.
        near_copy_fpir: share of strangers the near-copy threshold may flag.
        confidence: of the intervals behind it.

    Raises:
        InputError: when there is no calibration image or a score is missing.
    """
    patients = calibration_matches["query_patient_id"].to_pylist()
    identity = calibrate(_floats(calibration_matches["score"]), patients, target_fpir, confidence)
    structure = calibrate(_floats(calibration_matches["structure_score"]), patients, near_copy_fpir, confidence)
    return Policy(
        identity_threshold=identity.threshold,
        near_copy_threshold=structure.threshold,
        target_fpir=target_fpir,
        near_copy_fpir=near_copy_fpir,
        note="; ".join(dict.fromkeys(note for note in (identity.note, structure.note) if note)),
    )


def make_policy(config: FilterConfig, thresholds: Policy) -> MatchPolicy:
    """Return what judges by these thresholds: somebody's own policy where one is configured.

    Raises:
        ConfigError: when it can't be imported or isn't one.
    """
    if config.policy is None:
        return ThresholdPolicy(thresholds)
    return build(config.policy, MatchPolicy, "filter.policy", thresholds=thresholds)


def judged(policy: MatchPolicy, matches: pa.Table) -> pa.Table:
    """Ask a policy and make sure that it answered.

    Args:
        policy: who judges.
        matches: columns.JUDGED, among others; a null score is a sample that failed.

    Returns:
        columns.VERDICTS, a row a row, and nothing kept that failed.

    Raises:
        InputError: when the policy gave something else.
    """
    verdicts = policy.judge(matches.select(JUDGED))
    name = type(policy).__name__
    if not verdicts.schema.equals(VERDICTS) or verdicts["sample_id"] != matches["query_id"]:
        raise InputError(f"filter.policy: the verdicts of {name} aren't one row of columns.VERDICTS a sample, in order")
    if not verdicts["keep"].equals(pc.equal(verdicts["reason"], "kept")):
        raise InputError(f"filter.policy: {name} must keep the rows whose reason is `kept`, and no other")
    if pc.any(pc.and_(verdicts["keep"], pc.is_null(matches["score"]))).as_py():
        raise InputError(f"filter.policy: {name} keeps a sample that failed and has no image")
    return verdicts


def _floats(column: pa.ChunkedArray) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(column.cast(pa.float32()).to_numpy(), dtype=np.float32)
