"""The selection over all shards of samples: who is left out depends on all that the policy keeps."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from raydistill.core.columns import JUDGED
from raydistill.core.store import Store
from raydistill.data.vocabulary import BASE_PROMPT
from raydistill.matching.policy import MatchPolicy, judged
from raydistill.matching.selection import SELECTED, Selection, left_out

ASKED = ("sample_id", "labels", "prompt", "guidance_scale", "num_inference_steps")
"""Columns of samples that a selection needs."""


def candidates(samples: pa.Table, matches: pa.Table, sharing: pa.Table) -> pa.Table:
    """Bring together what a selection reads.

    Args:
        samples: `ASKED`.
        matches: columns.JUDGED of the same samples, in the same order.
        sharing: how many train patients share each prompt, `data.prompts.SHARING`.

    Returns:
        `selection.SELECTED`, a row a sample.
    """
    shared = dict(zip(sharing["prompt"].to_pylist(), sharing["patients"].to_pylist(), strict=True))
    # Who is behind the prompt that says nothing is nobody's secret.
    shared |= {BASE_PROMPT: None}
    counts = [shared.get(prompt, 0) for prompt in samples["prompt"].to_pylist()]
    columns = {name: samples[name] for name in ASKED if name != "prompt"}
    columns |= {name: matches[name] for name in ("score", "nearest_patient_id")}
    columns["prompt_patients"] = pa.array(counts, pa.int64())
    return pa.table([columns[name] for name in SELECTED], names=list(SELECTED))


def not_selected(
    sets: Sequence[tuple[Store, Store, Iterable[str]]], sharing: Store, policy: MatchPolicy, selection: Selection
) -> dict[str, str]:
    """Say which of the samples that a policy keeps are left out, by id, and why.

    Args:
        sets: samples, their matches in shards of the same names, and which of the shards.
        sharing: how many train patients share each prompt, in shards.
        policy: who judged them.
        selection: the bounds.
    """
    if selection.is_everything:
        return {}
    table, parts = sharing.read_table(), []
    for samples, matches, shards in sets:
        for shard in shards:
            asked = samples.read_table(shard, columns=[*ASKED, "failure"])
            asked = asked.filter(asked["failure"].is_null()).sort_by("sample_id")
            found = matches.read_table(shard, columns=list(JUDGED)).sort_by("query_id")
            kept = judged(policy, found)["keep"]
            parts.append(candidates(asked, found, table).filter(kept))
    if not parts:
        return {}
    everything = pa.concat_tables(parts)
    reasons = left_out(everything, selection)
    rows = np.flatnonzero(reasons != "")
    ids = everything["sample_id"].take(pa.array(rows)).to_pylist()
    return dict(zip(ids, reasons[rows].tolist(), strict=True))


def with_reasons(verdicts: pa.Table, reasons: dict[str, str]) -> pa.Table:
    """Return verdicts, columns.VERDICTS, in which the samples that a selection left out are dropped for its reason."""
    if not reasons:
        return verdicts
    ids, owned = (verdicts[name].to_pylist() for name in ("sample_id", "reason"))
    said = [reasons.get(name) or own for name, own in zip(ids, owned, strict=True)]
    columns = {"keep": [reason == "kept" for reason in said], "reason": said}
    for name, values in columns.items():
        at = verdicts.schema.get_field_index(name)
        verdicts = verdicts.set_column(at, verdicts.schema.field(at), pa.chunked_array([values]))
    return verdicts
