"""The work of embedding, matching and measuring images, and of the search."""

from raydistill.costs.work import Known, Work, alike, architecture, many, model_of, networks
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
    how = stage.config.tune
    said = f"{how.num_trials} trials, {how.candidates} candidates" + f", {how.students} students" * bool(how.students)
    rows = known.rows(stage.inputs["samples"])
    what = stage.config.model_dump(mode="json", exclude={"compute": True, "tune": {"num_trials"}})
    key = alike("tune", what, rows and min(rows, how.max_samples), known.rows(stage.inputs["calibration"]))
    return Work(said, "trials", how.num_trials, key, workers="room", has_fixed_part=True)


def rules(stage: Rules, known: Known) -> Work:
    """Classifiers of each rule."""
    how, rows = stage.config.evaluate, known.rows(stage.inputs["samples"])
    said = f"{stage.config.seeds} classifiers of {how.probe_steps} steps for each simple rule"
    key = alike("rules", how.probe_steps, rows and min(rows, how.max_images), known.rows(stage.inputs["evaluation"]))
    return Work(said, "classifiers of each rule", stage.config.seeds, key, workers="room")
