"""The prompts' part of an audit: what was asked of the model, and what the patients behind it are."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from raydistill.core.config import EvaluateConfig
from raydistill.core.store import Store
from raydistill.data.vocabulary import SEXES, VIEWS, Fields, plain_words, says_no_more
from raydistill.metrics.prompts import Attributes, marked_prompts, prompt_k, prompt_linkage
from raydistill.metrics.result import MetricResult

SAID = ["labels", "view", "sex"]
Bands = Mapping[str, tuple[int, int]]


def prompt_metrics(
    inputs: Mapping[str, Store], samples: pa.Table, asked: pa.Table, how: EvaluateConfig
) -> dict[str, MetricResult]:
    """Measure what prompts give away.

    Args:
        inputs: `train`, `evaluation`.
        samples: the auditor's matches of those that are judged, columns.MATCHES.
        asked: what was asked of the model for each, columns.REQUESTS.
        how: the confidence.

    Returns:
        `prompt_k`, `prompt_marks`, `prompt_linkage`.
    """
    columns = ["patient_id", "prompt", "age", *SAID]
    train, unseen = (inputs[role].read_table(columns=columns).to_pylist() for role in ("train", "evaluation"))
    sharing: dict[str, set[str]] = defaultdict(set)
    for row in train:
        sharing[row["prompt"]].add(row["patient_id"])
    prompts, bands = asked["prompt"].to_pylist(), _bands(asked["age_band"].to_pylist())
    wanted = [_attributes(row, bands) for row in asked.select(["age_band", *SAID]).to_pylist()]
    records, others = _by_patient(train, bands), _by_patient(unseen, bands)
    shared = {prompt: len(own) for prompt, own in sharing.items()}
    # Words that no field stands for can point at somebody, and nobody can count whom they fit.
    distinct = {row["prompt"]: row for row in asked.select(["prompt", "age_band", *SAID]).to_pylist()}
    told = {prompt: says_no_more(prompt, _fields(row)) for prompt, row in distinct.items()}
    read = {prompt: own if told[prompt] else Attributes() for prompt, own in zip(prompts, wanted, strict=True)}
    return {
        "prompt_k": prompt_k(read, shared, records, how.confidence),
        "prompt_marks": marked_prompts(prompts, how.confidence),
        "prompt_linkage": prompt_linkage(
            wanted,
            samples["matched_patient_ids"].to_pylist(),
            samples["unseen_matched_patient_ids"].to_pylist(),
            _united(records),
            _united(others),
            how.confidence,
            (samples["nearest_patient_id"].to_pylist(), samples["unseen_patient_id"].to_pylist()),
        ),
    }


def _fields(row: Mapping[str, Any]) -> Fields:
    labels = None if row["labels"] is None else tuple(row["labels"])
    return Fields(labels, row["view"], row["sex"], row["age_band"])


def _bands(asked: list[str | None]) -> dict[str, tuple[int, int]]:
    """Return first and last year of each age band that was asked for, such as `40 to 59`."""
    bounds = {band: band.split(" to ") for band in asked if band}
    return {band: (int(first), int(last)) for band, (first, last) in bounds.items()}


def _by_patient(rows: list[dict[str, Any]], bands: Bands) -> dict[str, set[Attributes]]:
    """Return what each record says, by patient."""
    found: dict[str, set[Attributes]] = defaultdict(set)
    for row in rows:
        found[row["patient_id"]].add(_attributes(row, bands))
    return found


def _united(records: Mapping[str, set[Attributes]]) -> dict[str, Attributes]:
    """Return what all records of each patient say together."""
    return {patient: frozenset().union(*own) for patient, own in records.items()}


def _attributes(row: Mapping[str, Any], bands: Bands) -> Attributes:
    """Say what a record or a request says, both in the public vocabulary's words and the bands that were asked for."""
    said = {f"finding={label}" for label in row["labels"] or ()}
    said |= {f"view={VIEWS.get(plain_words(row['view']), row['view'])}"} if row["view"] else set()
    said |= {f"sex={SEXES.get(plain_words(row['sex']), row['sex'])}"} if row["sex"] else set()
    age, band = row.get("age"), row.get("age_band")
    said |= {f"age={band}"} if band else set()
    said |= {f"age={name}" for name, (first, last) in bands.items() if age is not None and first <= age < last + 1}
    return frozenset(said)
