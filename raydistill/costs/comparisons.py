"""The work of embedding, matching and measuring images, and of the search."""

from functools import partial

from raydistill.core.searching import ShortStudent
from raydistill.core.spending import duration
from raydistill.costs.models import short_students
from raydistill.costs.work import Counted, Known, Work, alike, architecture, many, model_of, networks, passes_of
from raydistill.data.distortions import TREATMENTS
from raydistill.stages.audit_alone import Audited
from raydistill.stages.embed import Embed
from raydistill.stages.evaluate import Evaluate
from raydistill.stages.match import Match
from raydistill.stages.rules import Rules
from raydistill.stages.selftest import ROLES, SelfTest
from raydistill.stages.sight import Sight
from raydistill.stages.tune import Tune


def embedding(stage: Embed, known: Known) -> Work:
    """Images and networks."""
    rows, eyes = known.rows(stage.inputs["images"]), networks(stage)
    key = alike("embed", eyes, stage.config.near_copy_max_shift, known.resolution)
    return Work(f"{many(rows, 'images')} x {len(eyes)} network{'s' * (len(eyes) > 1)}", "images", rows, key)


def matching(stage: Match, known: Known) -> Work:
    """Queries and networks; a unit takes longer where galleries are larger."""
    how, eyes = stage.config, networks(stage)
    asked = [view for name, view in stage.inputs.items() if name == "images" or name.startswith("query_")]
    rows = [known.rows(view) for view in asked]
    galleries = [known.rows(stage.inputs[name].node.inputs["images"]) for name in ("gallery", "unseen")]
    queries = sum(row for row in rows if row is not None)
    is_known = None not in rows and None not in galleries
    said = f"{queries:,} queries" if is_known else f"{queries:,} samples and real queries, as many as ingest gives,"
    key = alike("match", eyes, galleries, how.near_copy_max_shift, how.search_device, known.resolution)
    return Work(f"{said} x {len(eyes)} network{'s' * (len(eyes) > 1)}", "queries", queries if is_known else None, key)


def selftest(stage: SelfTest, known: Known) -> Work:
    """Planted pictures, at most."""
    how, eyes, model = stage.config.selftest, networks(stage), model_of(stage)
    pictures = len(ROLES) * how.num_images * (len(TREATMENTS) + len(how.strengths))
    gallery = known.rows(stage.inputs["gallery"].node.inputs["images"])
    kind = (eyes, architecture(model), how.strengths, how.num_inference_steps, gallery, known.resolution)
    return Work(
        f"at most {pictures:,} planted pictures", "pictures", pictures if gallery else None, alike("selftest", *kind)
    )


def sight(stage: Sight, known: Known) -> Work:
    """Treated pictures, at most."""
    how, eyes = stage.config.selftest, networks(stage)
    pictures = how.num_images * len(TREATMENTS)
    gallery = known.rows(stage.inputs["gallery"].node.inputs["images"])
    said = f"at most {pictures:,} treated pictures"
    return Work(said, "pictures", pictures if gallery else None, alike("sight", eyes, gallery, known.resolution))


def audit(stage: Audited, known: Known) -> Work:
    """Images that are audited; of a model membership too."""
    rows, attacked = known.rows(stage.inputs["images"]), "model" in stage.inputs
    said = f"{many(rows, 'images')}{', membership' if attacked else ''}"
    return Work(said, "images", rows, alike("audit", attacked, known.resolution), workers="one", has_fixed_part=True)


def evaluation(stage: Evaluate, known: Known) -> Work:
    """Images that are looked at; trainings and resamples don't depend on how many."""
    how, view = stage.config, stage.inputs["images"]
    kept = known.counts.get("verdicts", {}).get("kept") if "verdicts" in stage.inputs else None
    rows = known.rows(view) if kept is None else kept
    rows = None if rows is None else min(rows, how.max_images)
    attacked = architecture(model_of(stage)) if "model" in stage.inputs else None
    said = f"{many(rows, 'images')}, a classifier of {how.probe_steps} steps{', membership' if attacked else ''}"
    cohort = [known.rows(stage.inputs[role]) for role in ("train", "calibration", "evaluation")]
    what = how.model_dump(mode="json", exclude={"compute", "max_images", "shadow_share"})
    key = alike("evaluate", sorted(stage.inputs), what, attacked, cohort, known.resolution)
    return Work(said, "images", rows if None not in cohort else None, key, workers="one", has_fixed_part=True)


def search(stage: Tune, known: Known) -> Work:
    """Trials; what networks and students take doesn't depend on how many."""
    how, short = stage.config.tune, stage.config.student
    said = f"{how.num_trials} trials, {how.candidates} candidates"
    if short:
        learnt = f"{short.training.optimizer.steps:,} steps x {short.training.optimizer.batch_size} images"
        asked = f"{short.samples.num_samples:,} images x {passes_of(short.samples):.3g} UNet passes"
        said += f", {how.students} students of {learnt} and {asked} each"
    rows = known.rows(stage.inputs["samples"])
    what = stage.config.model_dump(mode="json", exclude={"compute": True, "tune": {"num_trials"}})
    key = alike("tune", what, rows and min(rows, how.max_samples), known.rows(stage.inputs["calibration"]))
    count = partial(_students_counted, short, how.students, known) if short else None
    return Work(said, "trials", how.num_trials, key, count, workers="room", has_fixed_part=True)


def _students_counted(short: ShortStudent, number: int, known: Known) -> Counted:
    """Count the students' operations; what trials and networks take is measured or not known."""
    found = short_students(short, number, known)

    def hours() -> tuple[None, str]:
        alone, _ = found.hours()
        students = "" if alone is None else f"; its students alone take a worker {duration(alone)}"
        return None, f"no time: measured in no run like it{students}"

    return Counted(found.tflop, hours)


def rules(stage: Rules, known: Known) -> Work:
    """Classifiers of each rule."""
    how, rows = stage.config.evaluate, known.rows(stage.inputs["samples"])
    said = f"{stage.config.seeds} classifiers of {how.probe_steps} steps for each simple rule"
    key = alike("rules", how.probe_steps, rows and min(rows, how.max_images), known.rows(stage.inputs["evaluation"]))
    return Work(said, "classifiers of each rule", stage.config.seeds, key, workers="room")
