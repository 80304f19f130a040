"""The search's last rung: a short student of each of the best settings, and what a network learns from its samples.

It starts from what the student will start from, and is like it in all but its steps: what probe and networks can't see
is how much of what a setting keeps gets through a model.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.core.generation import RequestConfig
from raydistill.core.scratch import temporary_folder
from raydistill.core.searching import ShortStudent
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.data.prompts import FREQUENCIES
from raydistill.data.requests import Requests
from raydistill.diffusion.provenance import started_from
from raydistill.distributed.job import TrainJob
from raydistill.distributed.shards import Piece
from raydistill.distributed.task import run_on_workers
from raydistill.distributed.train import train_here
from raydistill.metrics.classifier import predict
from raydistill.stages.base import Context
from raydistill.stages.classifier import once, train_classifier
from raydistill.stages.encode import encoder_of, prepare
from raydistill.stages.images import pixels
from raydistill.stages.rungs import area_of, candidates_of
from raydistill.stages.sample import SamplePiece
from raydistill.stages.train_diffusion import objective_of, stream_of
from raydistill.stages.trial import Evidence, TuneNodeConfig

RANKED = ("networks", "network_utility", "objective")
"""What decides who gets a student: the networks where they looked, else the probe."""

ROWS = 1024
"""Samples that are encoded together, and read together by the training."""

ELSEWHERE = ("pretrained", "local_files_only", "private_parts", "guard")
"""Fields of a training that say how its start is found or what is known of it, and what nobody looks at here."""

Sets = Mapping[int, NDArray[np.bool_]]


def student_utility(
    table: pd.DataFrame,
    kept: Callable[[int], NDArray[np.bool_]],
    evidence: Evidence,
    config: TuneNodeConfig,
    context: Context,
) -> tuple[pd.Series, dict[int, NDArray[np.float64]]]:
    """Give the best settings a student each.

    Args:
        table: trials, with what `rungs.climb` found.
        kept: says which of the N samples that are looked at a row's setting keeps.
        evidence: the samples, and the calibration images that tell how useful a student is.
        config: with `student`.
        context: of the search; what was measured outlives a kill in its `work`.

    Returns:
        For the table, macro AUROC on calibration patients of a network that learned from the student's samples; NaN
        for settings that took no part. And what it said, by row: (M, F) probabilities.
    """
    how, seed, work = config.student, derive_seed(context.seed, "short student"), context.work / "students"
    finalists = candidates_of(table, kept, config.tune.students, by=RANKED)
    answers: dict[int, NDArray[np.float64]] = {}
    if how and finalists:
        initial = prepare(how.training, evidence.images.shape[-1], how.start_seed, work, work)
        # One seed for all: what differs between two students is what they saw.
        learn = partial(_answers, initial=initial, how=how, network_steps=config.network_steps, seed=seed, work=work)
        shared, compute = (evidence, {row: kept(row) for row in finalists}), how.training.compute
        said = run_on_workers(learn, shared, finalists, compute, context.progress, "short students")
        answers = dict(zip(finalists, said, strict=True))
    truth = evidence.test_labels, evidence.test_patients
    areas = {row: area_of(truth, own) for row, own in answers.items()}
    return pd.Series(areas, dtype=float).reindex(table.index), answers


def _answers(
    shared: tuple[Evidence, Sets],
    row: int,
    initial: Store,
    how: ShortStudent,
    network_steps: int,
    seed: int,
    work: Store,
) -> NDArray[np.float64]:
    """Return the probabilities (M, F) of what is tested, of a network that learned from a setting's student."""
    evidence, keep = shared[0], shared[1][row]

    def answer() -> NDArray[np.float64]:
        taught = keep & evidence.has_labels
        said = dict(zip(evidence.prompts[taught], evidence.labels[taught], strict=True))
        with temporary_folder() as folder:
            model = _train(evidence.images[keep], evidence.prompts[keep], initial, how, seed, Store.open(folder))
            made = _sampled(model, Counter(evidence.prompts[taught]), how, seed)
        if not made.num_rows:
            # From pictures of one grey level nothing is learned.
            return np.full(evidence.test_labels.shape, 0.5)
        labels = np.stack([said[prompt] for prompt in made["prompt"].to_pylist()])
        network = train_classifier(pixels(made), labels, network_steps, seed, how.training.compute)
        return predict(network, evidence.test_images)

    return once(work, keep, seed, answer)


def _train(
    images: NDArray[np.uint8], prompts: NDArray[Any], initial: Store, how: ShortStudent, seed: int, folder: Store
) -> Store:
    """Encode images (n, R, R) and their prompts (n,), learn from them, and return the model's folder."""
    config, rows = how.training, folder / "rows"
    shards = _encode(images, prompts, initial, how, rows)
    train_here(
        TrainJob(
            make_objective=partial(objective_of, initial, config, seed),
            optimizer=config.optimizer,
            # One worker has nothing to cut.
            deepspeed=config.deepspeed.model_copy(update={"zero_stage": min(1, config.deepspeed.zero_stage)}),
            compute=config.compute,
            ema_decay=config.ema_decay,
            out=folder,
            weights="model",
            work=folder / "work",
            seed=seed,
            stream=stream_of(rows, shards, config.optimizer.batch_size, seed),
        )
    )
    return folder / "model"


def _encode(
    images: NDArray[np.uint8], prompts: NDArray[Any], initial: Store, how: ShortStudent, rows: Store
) -> tuple[tuple[str, int], ...]:
    """Write encoded rows as `Encode` does; return name and number of rows of each shard."""
    encoder, shards = encoder_of(initial, how.training), list[tuple[str, int]]()
    rows.write_json("shapes.json", encoder.shapes(images.shape[-1]))
    for start in range(0, len(images), ROWS):
        name, some = f"part-{len(shards):05d}.parquet", slice(start, start + ROWS)
        for folder, table in zip(("rows", "words"), encoder.tables(images[some], list(prompts[some])), strict=True):
            rows.write_table(f"{folder}/{name}", table)
        shards.append((name, len(images[some])))
    return tuple(shards)


def _sampled(model: Store, prompts: Mapping[str, int], how: ShortStudent, seed: int) -> pa.Table:
    """Ask a model for images by prompts that are as frequent as they are kept: columns.SAMPLES that were made."""
    rows = [{"prompt": prompt, "count": count} for prompt, count in prompts.items()]
    frequencies = pa.Table.from_pylist(rows, schema=FREQUENCIES)
    requests = Requests(frequencies, RequestConfig(), seed, "short_student", ways=how.samples.ways)
    (made,) = SamplePiece(model, requests, how.samples)(Piece("", 0, 0, how.samples.num_samples))
    return made.filter(pc.is_null(made["failure"]))


def what_decides(dumped: dict[str, Any], how: ShortStudent) -> dict[str, Any]:
    """Name a start in a key by what it is.

    Args:
        dumped: how students are trained and asked, as a key would have it.
        how: the same.
    """
    training = {name: value for name, value in dumped["training"].items() if name not in ELSEWHERE}
    return {**dumped, "training": training, "start": started_from(how.training)["sha256"]}
