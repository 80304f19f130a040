"""Manifests of a run that never was, as its stages would have written them."""

from raydistill.core.manifest import Manifest
from raydistill.costs.rates import measured_in
from raydistill.pipeline import wire

COUNTS = {
    "ingest": {"rows": 100, "train": 50, "probe": 10, "calibration": 20, "evaluation": 20},
    "teacher_samples": {"rows": 512},
    "verdicts": {"rows": 512, "kept": 300},
}
SECONDS = {"reid_filter": 40.0, "teacher": 400.0, "teacher_samples": 80.0, "teacher_matches": 30.0, "gallery": 6.0}
SECONDS |= {"teacher_evaluation": 90.0, "ingest": 3.0, "verdicts": 1.0}


def manifest(stage, seconds=1.0, **changes):
    said = {
        "node": stage.node, "stage": type(stage).__name__, "version": stage.version, "key": "k", "digest": "d",
        "config": {}, "inputs": {}, "files": [], "counts": COUNTS.get(stage.node, {}), "facts": {}, "software": {},
        "started": "2026-01-01T00:00:00+00:00", "seconds": seconds,
        "compute": stage.compute and stage.compute.model_dump(mode="json"),
    }  # fmt: skip
    return Manifest(**said | changes)


def manifests(config, **changes):
    stages = {stage.node: stage for stage in wire(config)}
    return {
        node: (stages[node], manifest(stages[node], seconds, **changes.get(node, {})))
        for node, seconds in SECONDS.items()
    }


def rates(config, **changes):
    return measured_in("runs/before", config, manifests(config, **changes))
