"""Does the calibrated membership attack find only what is there? A finished run's models beside one that saw nobody.

    python benchmarks/membership.py RUN

Trains one more shadow for RUN, with another seed and on calibration images like the first: it saw neither train nor
evaluation images, so beside the first it must have nothing to tell. Attacks it, the teacher and the student, each
beside the first shadow: train images against evaluation images, and probes (withheld images of train patients) against
evaluation images. Prints a Markdown table and, as the last line, one JSON object.
"""

import json
import os
import sys
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.loading import parse, validate
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.diffusion.sampling import Sampler
from raydistill.distributed.session import prepare_libraries, session
from raydistill.metrics.membership import membership_attack
from raydistill.pipeline import wire
from raydistill.runner import Runner
from raydistill.stages.images import pixels
from raydistill.stages.membership import BATCH, DRAWS
from raydistill.stages.train_diffusion import TrainDiffusion

MODELS = {"teacher": "teacher", "student": "student", "saw nobody": "other_shadow"}
PAIRS = (("train", "evaluation"), ("probe", "evaluation"))


def main() -> None:
    """Train, attack, print."""
    prepare_libraries()
    runner = opened(Store.open(sys.argv[1]))
    other = next(stage for stage in runner.stages if stage.node == "other_shadow")
    if not runner.is_cached(other):
        with session(runner.config.cluster):
            runner.execute(other)
    how, asked = runner.config.evaluate, sides(runner)
    losses = {name: measured(runner, node, asked) for name, node in {**MODELS, "shadow": "shadow"}.items()}
    heads = [f"{member} against {stranger}" for member, stranger in PAIRS]
    print(f"| model | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    figures: dict[str, Any] = {}
    for name in MODELS:
        cells = []
        for head, (member, stranger) in zip(heads, PAIRS, strict=True):
            result = membership_attack(
                *(losses[name][role] for role in (member, stranger)),
                *(asked[role]["patient_id"].to_numpy() for role in (member, stranger)),
                member_reference=losses["shadow"][member],
                nonmember_reference=losses["shadow"][stranger],
                confidence=how.confidence,
                bootstrap=how.bootstrap,
            )["membership_auc"]
            low, high = result.interval or (0.0, 1.0)
            cells.append(f"{result.value:.3f} ({low:.3f} to {high:.3f})")
            figures[f"{name}, {head}"] = [round(value, 4) for value in (result.value or 0.5, low, high)]
        print(f"| {name} | {' | '.join(cells)} |")
    print(json.dumps(figures))


def opened(run: Store) -> Runner:
    """Open a finished run, with one more shadow model."""
    config = validate(parse(run.read_bytes("config.yaml"), "config.yaml"))
    known = {node: about["key"] for node, about in run.read_json("summary.json")["nodes"].items()}
    stages = wire(config)
    shadow = next(stage for stage in stages if stage.node == "shadow")
    other = TrainDiffusion("other_shadow", config.shadow, shadow.inputs, config.seed + 1)
    runner = Runner(run, config, [*stages, other], known)
    runner.plan()
    return runner


def sides(runner: Runner) -> dict[str, pa.Table]:
    """Read as many images of each role as the run's own attack does."""
    asked, ingest = {}, runner.artifact("ingest", runner.manifests["ingest"].key)
    for role in dict.fromkeys(role for pair in PAIRS for role in pair):
        table = (ingest / role).read_table(columns=["patient_id", "image", "prompt"])
        rows = np.random.default_rng(0).permutation(table.num_rows)[: runner.config.evaluate.membership_images]
        asked[role] = table.take(np.sort(rows))
    return asked


def measured(runner: Runner, node: str, asked: dict[str, pa.Table]) -> dict[str, NDArray[np.float64]]:
    """Return the denoising losses of a node's model, by role."""
    model = runner.artifact(node, runner.manifests[node].key) / "model"
    sampler = Sampler(model.keep_local(), runner.config.evaluate.compute.device)
    return {
        role: sampler.denoising_losses(
            pixels(table),
            table["prompt"].to_pylist(),
            fractions=runner.config.evaluate.membership_timesteps,
            seeds=[derive_seed(0, "membership", draw) for draw in range(DRAWS)],
            batch_size=BATCH,
        )
        for role, table in asked.items()
    }


if __name__ == "__main__":
    main()
