"""The auditor's part of an evaluation: what the matches of one set of samples say about the people it was made from.

The judge of these numbers is a network the filter never used.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import AUDITED
from raydistill.core.config import EvaluateConfig
from raydistill.core.store import Store
from raydistill.matching.calibration import OperatingPoint, calibrate
from raydistill.metrics import identification
from raydistill.metrics.intervals import clustered_rate, korn_graubard
from raydistill.metrics.leak import UNIT, leak_rate
from raydistill.metrics.near_copies import copied_rates, near_copy_rates
from raydistill.metrics.patients import hits_by_patient, patients_hit
from raydistill.metrics.result import MetricResult, insufficient
from raydistill.stages.base import Context
from raydistill.stages.images import only_kept, read_made

Metrics = dict[str, MetricResult]

STRICTEST = 1e-9
"""A target FPIR that no cohort supports: the point is set at the smallest that this one does."""


def audit(context: Context, how: EvaluateConfig) -> Metrics:
    """Measure the risk and write what it can be recomputed from: `tables/audit.parquet`, `operating_point.json`.

    Args:
        context: with the inputs `matches`, `train`, `evaluation`, `images` and those of `Evaluate` beside them.
        how: operating points and confidence.
    """
    store, more = context.inputs["matches"], context.inputs.get("more_matches")
    folders = [matches / "samples" for matches in (store, more) if matches]
    # Where enough was kept at once, nothing more was asked for.
    found = pa.concat_tables([folder.read_table() for folder in folders if folder.shards()])
    samples = only_kept(context.inputs, found, "query_id")
    strangers, control, probe = ((store / role).read_table() for role in ("calibration", "evaluation", "probe"))
    identity = _point(strangers, "score", how.audit_fpir, how.confidence)
    structure = _point(strangers, "structure_score", how.audit_near_copy_fpir, how.confidence)
    strictest = _point(strangers, "structure_score", STRICTEST, how.confidence)
    points = {"identity": identity, "structure": structure, "strictest_structure": strictest}
    context.out.write_json("operating_point.json", {k: point.model_dump(mode="json") for k, point in points.items()})
    scores, patients = _numpy(samples, "score"), _numpy(samples, "nearest_patient_id")
    structures = _numpy(samples, "structure_score")
    controls = _numpy(control, "score"), _numpy(control, "query_patient_id")
    flagged = scores >= identity.threshold
    metrics = identification.rates(scores, patients, *controls, identity.threshold, how.confidence)
    metrics |= identification.similarities(scores, controls[0], how.confidence)
    metrics["leak_rate"] = _leaked(flagged, patients, controls, probe, identity.threshold, how.confidence)
    metrics |= near_copy_rates(
        structures, patients, _numpy(control, "structure_score"), controls[1], structure.threshold, how.confidence
    )
    people = [context.inputs[role].read_table(columns=["patient_id"])["patient_id"] for role in ("train", "evaluation")]
    sizes = len(people[0]), len(people[1])
    unseen = _numpy(samples, "unseen_structure_score")
    metrics |= copied_rates(structures, unseen, strictest.threshold, sizes, how.confidence)
    metrics |= _train_or_unseen(samples, strangers, identity.threshold, how.confidence)
    metrics |= _patients_hit(samples, identity.threshold, min(len(ids.unique()) for ids in people), how.confidence)
    metrics["auditor_tpir"] = _found(probe, identity.threshold, how.confidence)
    audited = samples.select(list(AUDITED))
    audited = audited.append_column("flagged", pa.array(flagged))
    audited = audited.append_column("near_copy", pa.array(structures >= structure.threshold))
    context.out.write_table("tables/audit.parquet", audited)
    groups = _asked_for(context.inputs, samples)
    subgroups = identification.subgroup_rates(flagged, patients, groups, how.confidence)
    context.out.write_table("tables/subgroups.parquet", subgroups)
    return metrics


def _leaked(
    flagged: NDArray[np.bool_],
    patients: NDArray[Any],
    controls: tuple[NDArray[Any], NDArray[Any]],
    probe: pa.Table,
    threshold: float,
    confidence: float,
) -> MetricResult:
    known = _numpy(probe, "score") >= threshold, _numpy(probe, "query_patient_id")
    pairs = (flagged, patients), (controls[0] >= threshold, controls[1]), known
    if not all(len(flags) for flags, _ in pairs):
        why = "an image of each kind is needed: samples, unseen real images, new images of gallery patients"
        return insufficient(why, n=len(flagged), unit=UNIT, confidence=confidence)
    return leak_rate(*(korn_graubard(*pair, confidence) for pair in pairs))


def _patients_hit(samples: pa.Table, threshold: float, size: int, confidence: float) -> Metrics:
    """Count patients who are hit often, on equally many train and unseen patients with equally many images each."""
    train, unseen = (
        hits_by_patient(scores[:, 0] >= threshold, _numpy(samples, f"{side}matched_patient_id"), size)
        for side, scores in zip(("", "unseen_"), _matched(samples), strict=True)
    )
    return patients_hit(train, unseen, confidence)


def _found(probe: pa.Table, threshold: float, confidence: float) -> MetricResult:
    """Say how often the auditor finds people it knows: what it can't see in real images it can't see in samples."""
    patients = _numpy(probe, "query_patient_id")
    hits = (_numpy(probe, "score") >= threshold) & (_numpy(probe, "nearest_patient_id") == patients)
    unit = "share of probe images found, the right patient on top"
    return clustered_rate(hits, patients, confidence, unit=unit, reference="ISO/IEC 19795-1")


def _train_or_unseen(samples: pa.Table, strangers: pa.Table, threshold: float, confidence: float) -> Metrics:
    """Compare equally made galleries of train and unseen patients; a sample belongs to the nearest of all.

    Calibration patients are in neither gallery: the same share among their images is the control.
    """
    nearer = _numpy(samples, "score") >= _numpy(samples, "unseen_score")
    clusters = np.where(nearer, _numpy(samples, "nearest_patient_id"), _numpy(samples, "unseen_patient_id"))
    theirs, patients = _matched(strangers), _numpy(strangers, "query_patient_id")
    control = identification.closer_to_train_share(theirs[0], theirs[1], patients).value
    train, unseen = _matched(samples)
    return identification.closer_to_train(train, unseen, clusters, threshold, confidence, control)


def _matched(table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    train, unseen = (np.array(table[f"{side}matched_scores"].to_pylist(), dtype=float) for side in ("", "unseen_"))
    return train, unseen


def _asked_for(inputs: Mapping[str, Store], samples: pa.Table) -> dict[str, list[str | None]]:
    """Say of every matched sample what was asked of the model, by attribute."""
    asked = read_made(inputs, ["sample_id", "view", "sex", "age_band", "labels"])
    place = {sample_id: row for row, sample_id in enumerate(asked["sample_id"].to_pylist())}
    rows = asked.take([place[query_id] for query_id in samples["query_id"].to_pylist()])
    findings = [labels if labels is None else "+".join(labels) or "no finding" for labels in rows["labels"].to_pylist()]
    return {name: rows[name].to_pylist() for name in ("view", "sex", "age_band")} | {"findings": findings}


def _point(strangers: pa.Table, column: str, target: float, confidence: float) -> OperatingPoint:
    return calibrate(_numpy(strangers, column), _numpy(strangers, "query_patient_id"), target, confidence)


def _numpy(table: pa.Table, column: str) -> NDArray[Any]:
    return np.asarray(table[column].to_numpy())
