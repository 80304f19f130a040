"""The auditor's part of an evaluation: what the matches of one set of samples say about the people it was made from.

The judge of these numbers is a network the filter never used.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import AUDITED
from raydistill.core.config import EvaluateConfig
from raydistill.core.errors import InputError
from raydistill.core.store import Store
from raydistill.metrics import identification
from raydistill.metrics.pairwise import pairwise_threshold_fpir
from raydistill.metrics.result import MetricResult
from raydistill.metrics.worst_way import worst_way
from raydistill.stages.attack import way_of
from raydistill.stages.auditor import Auditor, Metrics, numbers
from raydistill.stages.base import Context
from raydistill.stages.gallery import GALLERY, digest_of, vectors_of
from raydistill.stages.images import only_kept, read_made
from raydistill.stages.prompts import prompt_metrics

IMAGES_OF = "images_of_patient"
IMAGE_COUNTS = {10: "10 or more", 5: "5 to 9", 2: "2 to 4", 1: "1"}
"""Groups of patients by their images, by the fewest."""


def audit(context: Context, how: EvaluateConfig) -> Metrics:
    """Measure the risk and write what it can be recomputed from: `tables/…audit.parquet`, `operating_point.json`.

    Args:
        context: with the inputs `matches`, `train`, `evaluation`, `images`, maybe `attack_matches` with
            `attack_samples`, `selftest`, the auditor's embeddings `gallery` and `strangers`, and those of `Evaluate`
            beside them.
        how: operating points and confidence.
    """
    store, more = context.inputs["matches"], context.inputs.get("more_matches")
    _check_gallery(context.inputs)
    folders = [matches / "samples" for matches in (store, more) if matches]
    # Where enough was kept at once, nothing more was asked for.
    found = pa.concat_tables([folder.read_table() for folder in folders if folder.shards()])
    samples, auditor = only_kept(context.inputs, found, "query_id"), Auditor.of(context.inputs, how)
    points = {"identity": auditor.identity, "structure": auditor.structure}
    dumped: dict[str, Any] = {name: point.model_dump(mode="json") for name, point in points.items()}
    certain = {"certain_copy": {"threshold": auditor.certain("structure_score", len(samples))}}
    certain["certain_identity"] = {"threshold": auditor.certain("score", len(samples))}
    context.out.write_json("operating_point.json", dumped | certain)
    metrics = auditor.risk(samples)
    asked = _asked_for(context.inputs, samples)
    metrics |= prompt_metrics(context.inputs, samples, asked, how)
    if "selftest" in context.inputs:
        metrics |= auditor.sight((context.inputs["selftest"] / "planted").read_table(), len(samples))
    metrics["auditor_tpir"] = auditor.tpir()
    flagged = _write(context, "tables/audit.parquet", samples, auditor)
    clusters = numbers(samples, "nearest_patient_id")
    groups = _groups(asked) | {IMAGES_OF: _image_counts(clusters, auditor.people[0])}
    by_group = identification.subgroup_rates(flagged, clusters, groups, how.confidence)
    # Groups of what was asked for are synthetic; these are of real people.
    sizes = Counter(f"{IMAGES_OF}={name}" for name in _image_counts(auditor.people[0].unique(), auditor.people[0]))
    own = pa.array([sizes.get(name) for name in by_group["name"].to_pylist()], pa.int64())
    by_group = by_group.append_column("group_size", own)
    context.out.write_table("tables/subgroups.parquet", by_group)
    if "gallery" in context.inputs:
        metrics["pairwise_threshold_fpir"] = pairwise_threshold_fpir(
            vectors_of(context.inputs["strangers"]),
            vectors_of(context.inputs["gallery"]),
            numbers(auditor.control, "score"),
            numbers(auditor.control, "query_patient_id"),
            how.confidence,
            context.seed,
        )
    return metrics | (_attacked(context, auditor) if "attack_matches" in context.inputs else {})


def _check_gallery(inputs: Mapping[str, Store]) -> None:
    """Refuse matches with a gallery that isn't the train images: whoever is left out can't be found."""
    ids = inputs["train"].read_table(columns=["image_id"])["image_id"]
    whole = digest_of(ids)
    for name in ("matches", "more_matches", "attack_matches"):
        if name not in inputs or not inputs[name].shards("samples"):
            continue
        gallery = inputs[name].read_json(GALLERY)
        if gallery["sha256"] != whole:
            raise InputError(
                f"{inputs[name].uri} was matched with a gallery of {gallery['images']} images, which aren't the "
                f"{len(ids)} train images: who isn't in the gallery can't be found, so nothing can be said of the risk"
            )


def _attacked(context: Context, auditor: Auditor) -> Metrics:
    """Measure the same on samples that were asked for harder: all ways together, and the way that leaks most."""
    samples = (context.inputs["attack_matches"] / "samples").read_table()
    flagged = _write(context, "tables/attack_audit.parquet", samples, auditor)
    ways = np.array([way_of(name) for name in samples["query_id"].to_pylist()], dtype=str)
    clusters = numbers(samples, "nearest_patient_id")
    by_way = identification.subgroup_rates(flagged, clusters, {"way": ways.tolist()}, auditor.confidence)
    context.out.write_table("tables/attacks.parquet", by_way)
    risk = auditor.risk(samples)
    # Of a way that made no image there is no match.
    made = context.inputs["attack_samples"].read_table(columns=["sample_id"])["sample_id"].to_pylist()
    asked = sorted({way_of(sample_id) for sample_id in made})
    metrics = {f"attacked_{name}": risk[name] for name in identification.ATTACKED}
    return metrics | {"attacked_worst_excess_risk": _worst_way(samples, ways, asked, auditor)}


def _worst_way(samples: pa.Table, ways: NDArray[np.str_], asked: Sequence[str], auditor: Auditor) -> MetricResult:
    """Return the largest excess risk of the ways asked for, at a confidence corrected for having looked at all."""
    corrected = replace(auditor, confidence=1 - (1 - auditor.confidence) / max(1, len(asked)))
    parts = {name: samples.filter(pa.array(ways == name)) for name in asked}
    return worst_way({name: corrected.rates(part)["excess_risk"] for name, part in parts.items()})


def _write(context: Context, name: str, samples: pa.Table, auditor: Auditor) -> NDArray[np.bool_]:
    """Write what can be recomputed; return which samples are flagged."""
    flagged = numbers(samples, "score") >= auditor.identity.threshold
    copied = numbers(samples, "structure_score") >= auditor.structure.threshold
    audited = samples.select(list(AUDITED)).append_column("flagged", pa.array(flagged))
    context.out.write_table(name, audited.append_column("near_copy", pa.array(copied)))
    return np.asarray(flagged)


def _asked_for(inputs: Mapping[str, Store], samples: pa.Table) -> pa.Table:
    """Return what was asked of the model for every matched sample, a row a row."""
    asked = read_made(inputs, ["sample_id", "prompt", "view", "sex", "age_band", "labels"])
    place = {sample_id: row for row, sample_id in enumerate(asked["sample_id"].to_pylist())}
    return asked.take([place[query_id] for query_id in samples["query_id"].to_pylist()])


def _groups(asked: pa.Table) -> dict[str, list[str | None]]:
    """Name the subgroup of every sample, by attribute."""
    labels = asked["labels"].to_pylist()
    findings = [names if names is None else "+".join(names) or "no finding" for names in labels]
    return {name: asked[name].to_pylist() for name in ("view", "sex", "age_band")} | {"findings": findings}


def _image_counts(nearest: NDArray[Any] | pa.Array, people: pa.ChunkedArray) -> list[str | None]:
    """Name how many gallery images the patient has whom each sample resembles most: who has many is at most risk."""
    counts = {entry["values"]: entry["counts"] for entry in people.value_counts().to_pylist()}
    return [next(name for least, name in IMAGE_COUNTS.items() if counts[who] >= least) for who in nearest.tolist()]
