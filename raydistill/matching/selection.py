"""What no single row can say: how many of a kind are kept. Asked after the policy, of what that keeps."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from raydistill.core.rows import turns
from raydistill.core.seeds import derive_seed

REASONS = ("another_way", "rare_prompt", "patient_quota", "balance")
"""Why a sample that the policy keeps is left out, in the order in which it is asked."""

SELECTED = (
    "sample_id", "score", "nearest_patient_id", "labels", "prompt_patients", "guidance_scale", "num_inference_steps",
)  # fmt: skip
"""Columns that a selection reads."""

WAY = ("guidance_scale", "num_inference_steps")
"""How a sample was made."""


class Selection(BaseModel):
    """Bounds on how many of a kind are kept; the defaults leave nothing out.

    Attributes:
        patient_quota: samples that may share a nearest patient; those that resemble the patient least are kept.
        balance: in [0, 1], how far groups with the same findings are brought down to the size of the median group: of n
            samples as many as n^(1 - balance) times the median^balance are kept. 0 leaves them, 1 makes them equal.
        prompt_patients: train patients who must share a sample's prompt.
        guidance_scale: with which a sample must have been made, where samples took turns.
        num_inference_steps: steps in which it must have been made, there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patient_quota: int | None = None
    balance: float = 0.0
    prompt_patients: int | None = None
    guidance_scale: float | None = None
    num_inference_steps: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing can be left out."""
        return self == Selection()


def left_out(kept: pa.Table, selection: Selection) -> NDArray[np.str_]:
    """Say which of the samples that a policy keeps are left out, and why.

    Args:
        kept: `SELECTED` of N samples, in any order; null labels are a group of their own, null patients are those of a
            prompt that says nothing, which passes.
        selection: the bounds.

    Returns:
        (N,) a reason of `REASONS`, or an empty string. The same for each sample in whatever order they come.
    """
    reasons = np.full(kept.num_rows, "", dtype="<U16")
    ids, scores = kept["sample_id"].to_pylist(), kept["score"].to_numpy()
    reasons[~in_the_way(kept, selection)] = "another_way"
    if selection.prompt_patients is not None:
        shared = kept["prompt_patients"].cast(pa.float64()).to_numpy()
        reasons[(reasons == "") & (shared < selection.prompt_patients)] = "rare_prompt"
    if selection.patient_quota is not None:
        rows = np.flatnonzero(reasons == "")
        order = rows[np.lexsort((np.array(ids, object)[rows].astype(str), scores[rows]))]
        patients = kept["nearest_patient_id"].to_numpy()[order]
        reasons[order[turns(patients) >= selection.patient_quota]] = "patient_quota"
    if selection.balance:
        rows = np.flatnonzero(reasons == "")
        draws = np.array([derive_seed(0, "balance", ids[row]) for row in rows])
        order = rows[np.argsort(draws, kind="stable")]
        groups = np.array([_group(names) for names in kept["labels"].take(pa.array(order)).to_pylist()], dtype=str)
        reasons[order[turns(groups) >= _allowed(groups, selection.balance)]] = "balance"
    return reasons


def in_the_way(samples: pa.Table, selection: Selection) -> NDArray[np.bool_]:
    """Say which of N samples, `WAY` of each, were made in the way that a selection asks for."""
    wanted = {name: getattr(selection, name) for name in WAY if getattr(selection, name) is not None}
    made = [samples[name].to_numpy() == np.float32(value) for name, value in wanted.items()]
    return np.asarray(np.all([np.ones(samples.num_rows, bool), *made], axis=0))


def _allowed(groups: NDArray[np.str_], balance: float) -> NDArray[np.int64]:
    """Return for each of (N,) how many of its group are kept."""
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    middle = float(np.median(counts)) if len(counts) else 0.0
    sizes = np.where(counts > middle, counts ** (1 - balance) * middle**balance, counts)
    return np.asarray(np.ceil(sizes - 1e-9).astype(np.int64)[codes])


def _group(labels: list[str] | None) -> str:
    return "?" if labels is None else "+".join(sorted(labels))
