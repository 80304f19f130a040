"""The work of training diffusion models and re-identification networks, of encoding for them, and of sampling."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from raydistill.core.generation import SampleConfig
from raydistill.core.searching import ShortStudent
from raydistill.core.section import Compute
from raydistill.core.training import DiffusionConfig
from raydistill.costs.work import (
    Counted,
    Known,
    Work,
    alike,
    architecture,
    many,
    model_of,
    passes_of,
    samples_of,
    ways_of,
)
from raydistill.stages.attack import Attack
from raydistill.stages.base import Stage
from raydistill.stages.encode import Encode
from raydistill.stages.sample import Sample
from raydistill.stages.top_up import TopUp
from raydistill.stages.train_diffusion import TrainDiffusion
from raydistill.stages.train_reid import TrainReid

if TYPE_CHECKING:
    from raydistill.diffusion.cost import Cost


def reid_training(stage: TrainReid, known: Known) -> Work:
    """Steps and images of a re-identification network's training."""
    how = stage.config
    if how.embedder:
        return Work("nothing to train", "", 0, alike("no training"))
    said = f"{how.optimizer.steps:,} steps x {how.optimizer.batch_size} images"
    if how.rehearsed:
        said += f" + {how.rehearsed:g} phantoms for each"
    rows = float(how.optimizer.steps * how.optimizer.batch_size)
    kind = (how.backbone, how.embedding_dim, how.rehearsed, how.images_per_patient, how.deepspeed.precision)
    return Work(
        said, "images", rows, alike("reid training", *kind, known.resolution), partial(_reid_counted, stage, known)
    )


def _reid_counted(stage: TrainReid, known: Known) -> Counted:
    from raydistill.reid.cost import training_hours, training_tflop

    how, side = stage.config, known.resolution
    how = how.model_copy(update={"compute": known.named(how.compute)})
    return Counted(training_tflop(how, side), partial(training_hours, how, side))


def encoding(stage: Encode, known: Known) -> Work:
    """Images that are encoded, at most all samples where the filter hasn't chosen yet."""
    train = known.rows(stage.inputs["images"])
    if "verdicts" in stage.inputs:
        kept = known.counts.get("verdicts", {}).get("kept")
        at_most = known.config.teacher_samples.target_kept or train
        rows = at_most if kept is None else kept
        said = "at most " * (kept is None) + many(rows, "images")
    else:
        others = known.rows(stage.inputs["calibration"])
        rows = None if train is None or others is None else train + others
        said = many(rows, "images")
    how = stage.config
    kind = (architecture(how), how.horizontal_flip, how.train_text_encoder, known.resolution)
    return Work(f"{said} encoded", "images", rows, alike("encode", *kind))


def diffusion_training(stage: TrainDiffusion, known: Known) -> Work:
    """Steps and images of a diffusion model's training, at most, where a guard may stop it."""
    how = stage.config
    steps, batch = how.optimizer.steps, how.optimizer.batch_size
    is_guarded = "calibration" in stage.inputs and how.guard.max_gap is not None
    said = f"{'at most ' * is_guarded}{steps:,} steps x {batch} images"
    kind = (architecture(how), how.train_text_encoder, how.deepspeed.precision, how.deepspeed.gradient_checkpointing)
    work = alike("diffusion training", *kind, known.resolution)
    return Work(said, "images", float(steps * batch), work, partial(_diffusion_counted, stage, known))


def _diffusion_counted(stage: TrainDiffusion, known: Known) -> Counted:
    found = _training(stage.config, known)
    return Counted(found.tflop, found.hours)


def _training(how: DiffusionConfig, known: Known) -> "Cost":
    from raydistill.diffusion.cost import Pace, training

    rows, workers = how.optimizer.batch_size, how.compute.max_workers
    at_once = rows // (workers * how.deepspeed.micros(rows, workers))
    pace = Pace(known.named(how.compute), how.deepspeed.precision, max(1, at_once))
    return training(how, rows * how.optimizer.steps, known.resolution, pace)


def short_students(how: ShortStudent, number: int, known: Known) -> Counted:
    """Count the operations of a search's students; hours are those of one worker, one student after another."""
    from raydistill.diffusion.cost import Pace, sampling

    asked = how.samples
    pace = Pace(known.named(asked.compute), asked.precision, 2 * asked.batch_size)
    passes = asked.num_samples * passes_of(asked)
    parts = [_training(how.training, known), sampling(how.training, asked.num_samples, passes, known.resolution, pace)]

    def hours() -> tuple[float | None, str]:
        said = [part.hours() for part in parts]
        unknown = next((found for found in said if found[0] is None), None)
        return unknown or (number * sum(found[0] or 0.0 for found in said), said[0][1])

    return Counted(number * sum(part.tflop for part in parts), hours)


def _made(stage: Stage, known: Known, config: SampleConfig, images: int | None, passes: float | None) -> Work:
    """Return the work of so many images with so many passes of the UNet, in all."""
    kind = (architecture(model_of(stage)), config.precision, config.compiled, known.resolution)
    key = alike("sampling", *kind)
    if images is None or passes is None:
        return Work("images of each prompt, as many as ingest gives", "passes", None, key)
    each = passes / images if images else 0
    pace = (known.named(config.compute), config.precision, 2 * config.batch_size)
    count = partial(_made_counted, stage, known, images, passes, *pace)
    return Work(f"{images:,} images x {each:.3g} UNet passes", "passes", passes, key, count)


def _made_counted(
    stage: Stage, known: Known, images: int, passes: float, compute: Compute, precision: str, rows: int
) -> Counted:
    from raydistill.diffusion.cost import Pace, sampling

    found = sampling(model_of(stage), images, passes, known.resolution, Pace(compute, precision, rows))
    return Counted(found.tflop, found.hours)


def sampling(stage: Sample, known: Known) -> Work:
    """Images and passes."""
    images = known.rows(stage["samples"])
    return _made(stage, known, stage.config, images, None if images is None else images * passes_of(stage.config))


def more_sampling(stage: TopUp, known: Known) -> Work:
    """The rest of the budget, at most."""
    config = stage.config.samples
    first = samples_of(config)
    # With `per_prompt` more may be asked for at first than the budget allows: then nothing follows.
    more = None if first is None else max(0, config.budget(first) - first)
    work = _made(stage, known, config, more, None if more is None else more * passes_of(config))
    said = f"until the filter has kept {config.target_kept:,}; at most {work.said}; matching them isn't counted"
    return replace(work, said=said)


def attack(stage: Attack, known: Known) -> Work:
    """Images and passes of all ways together."""
    ways = ways_of(stage)
    if ways is None:
        return _made(stage, known, stage.config.samples, None, None)
    images, passes = sum(map(known.asked, ways)), sum(known.asked(way) * passes_of(way) for way in ways)
    work = _made(stage, known, stage.config.samples, images, passes)
    return replace(work, said=f"{work.said} in {len(ways)} ways")
