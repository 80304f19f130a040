"""What the search reads: once, before its trials; and what those look at who come after them, the pictures."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.core.columns import JUDGED
from raydistill.core.errors import NothingToDo
from raydistill.core.seeds import generator
from raydistill.metrics.probe import label_matrix
from raydistill.stages.base import Context
from raydistill.stages.features import Looked, features_of
from raydistill.stages.images import pixels, read_kept, read_sampled, rows_of
from raydistill.stages.selecting import ASKED, candidates
from raydistill.stages.trial import Evidence, TuneNodeConfig

PANEL = 48
"""Samples that are shown with every trial."""


def read_evidence(context: Context, config: TuneNodeConfig) -> Evidence:
    """Read and compute once what all trials share: no pictures, but what workers make of them.

    Args:
        context: of the search; features outlive a kill in its `work`.
        config: of the search.

    Raises:
        NothingToDo: where there is no sample.
    """
    inputs, how = context.inputs, config.tune
    samples = _samples(context, how.max_samples, ASKED)
    if not samples.num_rows:
        raise NothingToDo("no sample to filter: the teacher made no image")
    real = _real(context, how.max_samples, ("image_id", "patient_id"))
    findings = inputs["findings"].read_json("findings.json")["findings"]
    # How many of a kind are kept depends on all that there are.
    counted = how.space.patient_quota is not None or any(how.space.balance)
    asked = read_kept({"images": inputs["samples"]}, list(ASKED)).sort_by("sample_id") if counted else samples
    matches, judge = (
        rows_of(inputs[eye] / "samples", ids, JUDGED, "query_id")
        for eye, ids in (("matches", asked["sample_id"]), ("judge", samples["sample_id"]))
    )
    looked = {
        "samples": Looked(inputs["samples"], "sample_id", samples["sample_id"].combine_chunks()),
        "calibration": Looked(inputs["calibration"], "image_id", real["image_id"].combine_chunks()),
    }
    features = features_of(looked, config.compute, context.work, context.progress)
    none = np.zeros((0, 1, 1), np.uint8)
    return Evidence(
        matches=matches,
        candidates=candidates(asked, matches, inputs["sharing"].read_table()),
        looked=pc.index_in(samples["sample_id"], asked["sample_id"].combine_chunks()).to_numpy(),
        panel=np.sort(generator(context.seed, "panel").permutation(samples.num_rows)[:PANEL]),
        strangers=(inputs["matches"] / "calibration").read_table(),
        judge=judge,
        judge_strangers=(inputs["judge"] / "calibration").read_table(),
        images=none,
        test_images=none,
        features=features["samples"],
        labels=label_matrix([labels or [] for labels in samples["labels"].to_pylist()], findings),
        has_labels=samples["labels"].is_valid().to_numpy(),
        prompts=samples["prompt"].to_numpy(),
        test_features=features["calibration"],
        test_labels=label_matrix(real["labels"].to_pylist(), findings),
        test_patients=real["patient_id"].to_numpy(),
    )


def with_pictures(evidence: Evidence, context: Context, config: TuneNodeConfig) -> Evidence:
    """Return what was read, with the pictures that networks learn from and are tested on."""
    most, column = config.tune.max_samples, ("image",)
    samples, real = _samples(context, most, column), _real(context, most, column)
    return replace(evidence, images=pixels(samples), test_images=pixels(real) if len(real) else evidence.test_images)


def _samples(context: Context, most: int, columns: tuple[str, ...]) -> pa.Table:
    """Read columns of the samples that are looked at, in the order of their ids."""
    columns = tuple(dict.fromkeys(("sample_id", *columns)))
    return read_sampled({"images": context.inputs["samples"]}, list(columns), most, context.seed).sort_by("sample_id")


def _real(context: Context, most: int, columns: tuple[str, ...]) -> pa.Table:
    """Read columns of the calibration images that are looked at and of which is known what they show."""
    real = read_sampled({"images": context.inputs["calibration"]}, ["labels", *columns], most, context.seed)
    return real.filter(real["labels"].is_valid())
