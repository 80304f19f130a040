"""The utility's part of an evaluation: what do findings classifiers learn from these images, tested on real ones?

Several networks are taught by each set of images, for one of them has luck; every set's have the same seeds.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.config import EvaluateConfig
from raydistill.core.errors import LineageError
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.data.vocabulary import age_band
from raydistill.metrics import repeated, utility
from raydistill.metrics.classifier import predict
from raydistill.metrics.probe import label_matrix
from raydistill.metrics.reliability import calibration_error
from raydistill.metrics.repeated import repeated_difference
from raydistill.metrics.result import MetricResult
from raydistill.stages.base import Context
from raydistill.stages.classifier import train_classifier
from raydistill.stages.fidelity import Images, write_extractor
from raydistill.stages.images import pixels

NETWORK = "network"
"""Names the column of predictions that says which of the networks made them."""

AGE_BAND = 20
"""Years of age of one subgroup."""

Scores = NDArray[np.float64]


def utility_metrics(
    context: Context, judged: Images, real: pa.Table, how: EvaluateConfig, root_seed: int
) -> dict[str, MetricResult]:
    """Teach findings classifiers by these images with the same budget as by any others; test them on real images.

    Images of which nobody said what they show take no part on either side.

    Args:
        context: with the input `findings`, and maybe `reference` (predictions of the networks taught by real images; an
            evaluation without it writes the first of its own as the domain's extractor) and `teacher_predictions`.
        judged: what the networks learn from.
        real: records that they are tested on, the same for every set.
        how: the budget.
        root_seed: of the run, whence the networks' seeds come.

    Returns:
        `utility_auroc`, `calibration_error`, and beside others' predictions `utility_loss` and `utility_over_teacher`.
        Writes `predictions/`, `tables/by_finding.parquet` and `tables/utility_by_group.parquet`.
    """
    findings = context.inputs["findings"].read_json("findings.json")["findings"]
    taught = np.array([labels is not None for labels in judged.labels], dtype=bool)
    real = real.filter(real["labels"].is_valid())
    if not (findings and taught.any() and real.num_rows):
        return utility.without_labels(real.num_rows, how.confidence)
    truth = label_matrix(real["labels"].to_pylist(), findings)
    labels = label_matrix([names for names in judged.labels if names is not None], findings)
    scores = _answers(context, judged.pixels[taught], labels, pixels(real), how, root_seed)
    _write(context.out, scores, findings, real["image_id"])
    others = {name: _predicted(context.inputs, name, findings, real["image_id"]) for name in REFERENCES}
    groups = [scores, *(found for found in others.values() if found is not None)]
    patients = real["patient_id"].to_numpy()
    options = (how.confidence, how.bootstrap, context.seed)
    luck = repeated.luck_of_training(truth, groups, patients)
    metrics = {
        "utility_auroc": repeated.repeated_auroc(truth, scores, patients, luck, *options),
        "calibration_error": calibration_error(truth, groups, patients, how.confidence),
    }
    best, teacher = others.values()
    for name, first, second in (("utility_loss", best, scores), ("utility_over_teacher", scores, teacher)):
        if first is not None and second is not None:
            metrics[name] = repeated_difference(truth, first, second, patients, luck, *options)
    by_finding = repeated.by_finding(truth, groups, patients, findings, *options)
    context.out.write_table("tables/by_finding.parquet", by_finding)
    by_group = repeated.by_group(truth, groups, patients, _groups(real), *options)
    context.out.write_table("tables/utility_by_group.parquet", by_group)
    return metrics


REFERENCES = ("reference", "teacher_predictions")
"""Inputs that hold what other sets' networks said of the same images."""


def _answers(
    context: Context,
    images: NDArray[np.uint8],
    labels: NDArray[np.float32],
    tested: NDArray[np.uint8],
    how: EvaluateConfig,
    root_seed: int,
) -> Scores:
    """Return (S, N, F) probabilities of S networks; the first that real images taught sees for all evaluations."""
    answers = []
    for number in range(how.networks):
        model = train_classifier(images, labels, how.probe_steps, derive_seed(root_seed, NETWORK, number), how.compute)
        if not number and "reference" not in context.inputs:
            write_extractor(model, context.out)
        answers.append(predict(model, tested))
    return np.stack(answers)


def _write(out: Store, scores: Scores, findings: list[str], images: pa.ChunkedArray) -> None:
    for number, own in enumerate(scores):
        columns = {"image_id": images, NETWORK: pa.array([number] * len(own), pa.int32())}
        table = pa.table(columns | dict(zip(findings, own.T, strict=True)))
        out.write_table(f"predictions/part-{number:05d}.parquet", table)


def _predicted(inputs: Mapping[str, Store], name: str, findings: list[str], images: pa.ChunkedArray) -> Scores | None:
    """Read (S, N, F) probabilities of another evaluation, which must be of the same images in the same order."""
    if name not in inputs or not inputs[name].shards():
        return None
    each, ids = [], images.to_pylist()
    for shard in inputs[name].shards():
        table = inputs[name].read_table(shard)
        if table["image_id"].to_pylist() != ids:
            store = inputs[name].uri
            raise LineageError(f"{store} isn't of the images that this evaluation tests: nothing can be paired")
        each.append(np.stack([table[finding].to_numpy() for finding in findings], axis=1))
    return np.stack(each)


def _groups(real: pa.Table) -> dict[str, list[str | None]]:
    groups = {name: real[name].to_pylist() for name in ("sex", "view")}
    return groups | {"age_band": [None if a is None else age_band(a, AGE_BAND) for a in real["age"].to_pylist()]}
