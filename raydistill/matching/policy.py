"""From scores to verdicts: every sample keeps its row and gets a reason."""

from collections import Counter
from typing import Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from raydistill.core.columns import VERDICTS
from raydistill.core.errors import InputError
from raydistill.matching.calibration import calibrate

REASONS = ("kept", "identity", "near_copy", "identity+near_copy", "failed")
"""Every reason a verdict can have; only `kept` keeps."""


class Policy(BaseModel):
    """Thresholds of the filter. A sample that reaches either is dropped.

    Attributes:
        identity_threshold: on `score`.
        near_copy_threshold: on `structure_score`.
        target_fpir: at which FPIR the identity threshold was set; for the record.
        near_copy_fpir: at which share of flagged strangers the near-copy threshold was set; for the record.
        is_feasible: whether the search found a setting that keeps its bounds; of none, this is the nearest.
        note: what the calibration had to say about either.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity_threshold: float
    near_copy_threshold: float
    target_fpir: float
    near_copy_fpir: float
    is_feasible: bool = True
    note: str = ""


class MatchPolicy(Protocol):
    """Decides which samples may be kept. An extension point."""

    def judge(self, matches: pa.Table) -> pa.Table:
        """Give every row of `matches` (columns.MATCHES) one row of columns.VERDICTS, in the same order."""
        ...


class ThresholdPolicy:
    """Drops what reaches either threshold. A `MatchPolicy`.

    Args:
        policy: the thresholds.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

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
        place = (score >= self.policy.identity_threshold) + 2 * (structure >= self.policy.near_copy_threshold)
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


def count_reasons(verdicts: pa.Table) -> dict[str, int]:
    """Count the verdicts (columns.VERDICTS) by reason, every reason named; the counts add up to the rows."""
    counted = Counter(verdicts["reason"].to_pylist())
    return {reason: counted[reason] for reason in REASONS}


def _floats(column: pa.ChunkedArray) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return column.cast(pa.float32()).to_numpy().astype(np.float32, copy=False)
