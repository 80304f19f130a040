"""What stopping on the gap does to a teacher: near-copies among its samples, with and without the guard.

    python benchmarks/early_stopping.py [FOLDER]

Trains teachers on a small embedded cohort for long enough to learn it by heart, without `teacher.guard.max_gap` and
with; prints a Markdown table and, as the last line, one JSON object. About half an hour on two cores. The folder, by
default `runs/early_stopping`, keeps what is done: the same command goes on.
"""

import json
import sys
from typing import Any

import numpy as np

from raydistill.core.config import Config
from raydistill.core.loading import validate
from raydistill.core.store import Store
from raydistill.data.images import decode_batch
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.session import session
from raydistill.matching.calibration import calibrate
from raydistill.matching.near_copy import StructureIndex
from raydistill.metrics.near_copies import near_copy_rates
from raydistill.pipeline import wire
from raydistill.runner import Runner
from raydistill.stages.images import pixels

NODES = ("ingest", "teacher_latents", "teacher", "teacher_samples")
LIMITS = (None, 0.5, 0.2, 0.1)
TARGET_FPIR, CONFIDENCE = 0.01, 0.95


def configuration(max_gap: float | None) -> Config:
    """Return a small cohort and a teacher that sees each of its images several hundred times."""
    return validate(
        {
            "name": "early_stopping",
            "source": {"kind": "phantom", "num_patients": 200, "max_visits": 4, "resolution": 32},
            "ingest": {"resolution": 32},
            "teacher": {
                "block_out_channels": [32, 64],
                "optimizer": {"steps": 2400, "batch_size": 32, "lr": 0.001, "schedule": "constant_with_warmup"},
                "guard": {"every": 50, "draws": 2, "max_gap": max_gap},
                "preview_every": 0,
            },
            "teacher_samples": {"num_samples": 512},
        }
    )


def measured(runner: Runner) -> dict[str, Any]:
    """Bring a teacher and its samples up to date, and compare them with what it learned from."""
    stages = {stage.node: stage for stage in runner.stages}
    manifests = {node: runner.execute(stages[node])[0] for node in NODES}
    folder = {node: runner.artifact(node, manifest.key) for node, manifest in manifests.items()}
    sides = {role: (folder["ingest"] / role).read_table() for role in ("train", "calibration", "evaluation")}
    index = StructureIndex.of(pixels(sides["train"]), runner.config.match.near_copy_max_shift)
    patients = sides["train"]["patient_id"].to_numpy()
    made = (folder["teacher_samples"] / "samples").read_table(columns=["image"])["image"].drop_null()
    scores, rows = index.search(decode_batch(made.to_pylist()))
    others = {role: index.search(pixels(sides[role]))[0] for role in ("calibration", "evaluation")}
    whose = {role: sides[role]["patient_id"].to_numpy() for role in others}
    point = calibrate(others["calibration"], whose["calibration"], TARGET_FPIR, CONFIDENCE)
    control = others["evaluation"], whose["evaluation"]
    found = near_copy_rates(scores, patients[rows], *control, point.threshold, CONFIDENCE)
    copied = rows[scores >= point.threshold]
    facts = manifests["teacher"].facts
    return {
        "steps": facts["steps"],
        "epochs": facts["epochs"],
        "gap": facts["final_gap"],
        "near_copy_rate": found["near_copy_rate"],
        "near_copy_excess": found["near_copy_excess"],
        "train_images_copied": len(np.unique(copied)) / len(patients),
    }


def main() -> None:
    """Train, measure, print."""
    prepare_libraries()
    store = Store.open(sys.argv[1] if len(sys.argv) > 1 else "runs/early_stopping")
    figures = {}
    lines = [
        "| max_gap | steps | epochs | gap at the end | near-copy rate (control) | beyond chance | train images copied |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    with session(configuration(None).cluster):
        for limit in LIMITS:
            config = configuration(limit)
            runner = Runner(store, config, wire(config))
            runner.open()
            found = measured(runner)
            rate, excess = found["near_copy_rate"], found["near_copy_excess"]
            low, high = excess.interval
            lines.append(
                f"| {limit or 'none'} | {found['steps']} | {found['epochs']:.0f} | {found['gap']:.2f} "
                f"| {rate.value:.3f} ({rate.control:.3f}) | {excess.value:.3f} ({low:.3f} to {high:.3f}) "
                f"| {found['train_images_copied']:.2f} |"
            )
            figures[str(limit)] = {name: getattr(value, "value", value) for name, value in found.items()}
            print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
