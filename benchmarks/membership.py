"""Does the calibrated membership attack find only what is there? A finished run's models beside one that saw a half.

    python benchmarks/membership.py RUN

Trains one more model for RUN, as its shadow was trained, on the images of half of the train patients. The other half
are people like them whom it never saw: between those and evaluation images there must be nothing to find, or the attack
finds the difference of the two sides. Its own half shows what it can find. Then the same of teacher and student, and of
probes, which are withheld images of train patients. Every image is judged beside the run's shadow. Prints a Markdown
table and, as the last line, one JSON object.
"""

import json
import os
import sys
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.session import session
from raydistill.folder import opened
from raydistill.metrics.membership import membership_attack
from raydistill.runner import Runner
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.encode import Encode
from raydistill.stages.membership import losses_of
from raydistill.stages.train_diffusion import TrainDiffusion

ATTACKED = (
    ("saw one half", "the other half"),
    ("saw one half", "its own half"),
    ("teacher", "train"),
    ("teacher", "probe"),
    ("student", "train"),
    ("student", "probe"),
)
"""Whom is asked about whom, against evaluation images each time."""

NODES = {"saw one half": "half_model", "teacher": "teacher", "student": "student", "shadow": "shadow"}


class Half(Stage):
    """Input: `train`. Output: `own/` and `other/`, the records of one half of the patients and of the other."""

    def run(self, context: Context) -> Outcome:
        """Deal the patients by chance."""
        records = context.inputs["train"].read_table()
        people = sorted(set(records["patient_id"].to_pylist()))
        chosen = np.random.default_rng(context.seed).permutation(len(people))[: len(people) // 2]
        mine = pc.is_in(records["patient_id"], pa.array([people[number] for number in chosen]))
        for name, rows in (("own", mine), ("other", pc.invert(mine))):
            context.out.write_table(f"{name}/part-00000.parquet", records.filter(rows))
        return Outcome(counts={"patients": len(people)})


def main() -> None:
    """Train, attack, print."""
    prepare_libraries()
    runner = opened(sys.argv[1], halved)
    runner.plan()
    extra = [stage for stage in runner.stages if stage.node.startswith("half")]
    with session(runner.config.cluster):
        for stage in extra:
            runner.execute(stage)
    how, asked = runner.config.evaluate, sides(runner)
    losses = {name: measured(runner, node, asked) for name, node in NODES.items()}
    print("| model | members, said to be | area beside the shadow |\n|---|---|---|")
    figures: dict[str, Any] = {}
    for name, member in ATTACKED:
        result = membership_attack(
            *(losses[name][role] for role in (member, "evaluation")),
            *(asked[role]["patient_id"].to_numpy() for role in (member, "evaluation")),
            member_reference=losses["shadow"][member],
            nonmember_reference=losses["shadow"]["evaluation"],
            confidence=how.confidence,
            bootstrap=how.bootstrap,
        )["membership_auc"]
        low, high = result.interval or (0.0, 1.0)
        print(f"| {name} | {member} | {result.value:.3f} ({low:.3f} to {high:.3f}) |")
        figures[f"{name}, {member}"] = [round(value, 4) for value in (result.value or 0.5, low, high)]
    print(json.dumps(figures))


def halved(stages: list[Stage]) -> list[Stage]:
    """Return what makes a model more, one that sees half of the train patients and is trained as the shadow was."""
    ingest, shadow = (next(stage for stage in stages if stage.node == node) for node in ("ingest", "shadow"))
    seed = ingest.root_seed
    half = Half("half", ingest.config, {"train": ingest["train"]}, seed)
    latents = Encode("half_latents", shadow.config, {"images": half["own"]}, seed)
    rows = {"rows": latents["train"], "initial": shadow.inputs["initial"]}
    return [half, latents, TrainDiffusion("half_model", shadow.config, rows, seed)]


def sides(runner: Runner) -> dict[str, pa.Table]:
    """Read images of each kind, as many as the run's own attack reads at most."""
    ingest, half = (runner.artifact(node, runner.manifests[node].key) for node in ("ingest", "half"))
    folders = {role: ingest / role for role in ("train", "probe", "evaluation")}
    folders |= {"its own half": half / "own", "the other half": half / "other"}
    asked = {}
    for name, folder in folders.items():
        table = folder.read_table(columns=["patient_id", "image", "prompt"])
        rows = np.random.default_rng(0).permutation(table.num_rows)[: runner.config.evaluate.membership_images]
        asked[name] = table.take(np.sort(rows))
    return asked


def measured(runner: Runner, node: str, asked: dict[str, pa.Table]) -> dict[str, NDArray[np.float64]]:
    """Return the denoising losses of a node's model, by kind of images, as the run's own attack measures them."""
    model = runner.artifact(node, runner.manifests[node].key) / "model"
    return dict(zip(asked, losses_of(model, list(asked.values()), runner.config.evaluate, 0), strict=True))


if __name__ == "__main__":
    main()
