"""The membership attack's part of an evaluation: ask the model itself whom it was trained on."""

from collections import Counter
from collections.abc import Mapping
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.config import EvaluateConfig
from raydistill.core.rows import turns
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.diffusion.sampling import Sampler
from raydistill.metrics.membership import membership_attack, membership_scores
from raydistill.metrics.result import MetricResult
from raydistill.stages.base import Context
from raydistill.stages.images import at_most, pixels, read_sampled

BATCH, DRAWS = 32, 4
"""Images at a time, and noise draws a loss is averaged over; draws times noise levels is the attacker's budget."""

SIDES = ("train", "evaluation", "probe")
NAMES = {"train": "members", "evaluation": "strangers", "probe": "probes"}
COLUMNS = ["image_id", "patient_id", "image", "prompt"]


def attacked(context: Context, how: EvaluateConfig) -> dict[str, MetricResult]:
    """Attack by the model's losses; where there is a shadow model, also beside the difficulty of each image.

    Args:
        context: with the inputs `model`, `train`, `evaluation`, and maybe `probe` (withheld images of train patients)
            and `shadow`, a model that saw none of these.
        how: the attacker's budget.

    Returns:
        What `membership_attack` gives, and with a shadow model the same as `membership_calibrated_…`, and
        `membership_shadow_auc`: how far the shadow, which saw neither side, tells them apart. That must be nothing.
        With probes `membership_probe_auc`: how far images that nobody trained on, of people somebody did, are told from
        strangers. Writes `tables/membership.parquet`, a score a record.
    """
    seed, asked = context.seed, _sides(context, how)
    patients = {name: part["patient_id"].to_numpy() for name, part in asked.items()}
    attack = partial(
        membership_attack, confidence=how.confidence, bootstrap=how.bootstrap, seed=derive_seed(seed, "bootstrap")
    )
    losses = dict(zip(asked, losses_of(context.inputs["model"], list(asked.values()), how, seed), strict=True))
    people = patients["train"], patients["evaluation"]
    metrics, ratios = attack(losses["train"], losses["evaluation"], *people), losses
    if "shadow" in context.inputs:
        shadow = dict(zip(asked, losses_of(context.inputs["shadow"], list(asked.values()), how, seed), strict=True))
        sides = shadow["train"], shadow["evaluation"]
        calibrated = attack(
            losses["train"], losses["evaluation"], *people, member_reference=sides[0], nonmember_reference=sides[1]
        )
        metrics |= {name.replace("membership_", "membership_calibrated_"): m for name, m in calibrated.items()}
        metrics["membership_shadow_auc"] = attack(*sides, *people)["membership_auc"]
        ratios = {name: np.log(losses[name]) - np.log(shadow[name]) for name in asked}
    if "probe" in asked:
        found = attack(ratios["probe"], ratios["evaluation"], patients["probe"], patients["evaluation"])
        metrics["membership_probe_auc"] = found["membership_auc"]
    context.out.write_table("tables/membership.parquet", _records(asked, ratios))
    return metrics


def _sides(context: Context, how: EvaluateConfig) -> dict[str, pa.Table]:
    """Read what is told apart, by role: as many of each, and no patient with more images than a train patient has."""
    seed, roles = context.seed, [role for role in SIDES if role in context.inputs]
    sides = {
        role: read_sampled({"images": context.inputs[role]}, COLUMNS, how.max_images, seed)
        for role in roles
        if role != "probe" or context.inputs[role].shards()
    }
    # Alike in how many images a patient has: train patients are bounded, and members must differ in nothing else.
    most = max(Counter(sides["train"]["patient_id"].to_pylist()).values(), default=0)
    sides = {role: at_most(table, most, derive_seed(seed, "patients")) for role, table in sides.items()}
    size = min(*(sides[role].num_rows for role in ("train", "evaluation")), how.membership_images)
    chosen = {}
    for role, table in sides.items():
        order = np.random.default_rng(derive_seed(seed, NAMES[role])).permutation(table.num_rows)
        # Of everybody one image before anybody's second: rates of few false positives take people.
        first = np.argsort(turns(table["patient_id"].to_numpy()[order]), kind="stable")[:size]
        chosen[role] = table.take(np.sort(order[first]))
    return {role: table for role, table in chosen.items() if role != "probe" or table.num_rows}


def _records(asked: Mapping[str, pa.Table], losses: Mapping[str, NDArray[np.float64]]) -> pa.Table:
    """Return every record with its role and the score by which it is told apart, higher for likelier members."""
    scores = membership_scores(np.concatenate([losses[role] for role in asked]))
    tables = [table.select(["image_id", "patient_id"]) for table in asked.values()]
    roles = np.repeat(list(asked), [table.num_rows for table in asked.values()])
    return pa.concat_tables(tables).append_column("role", pa.array(roles)).append_column("score", pa.array(scores))


def losses_of(model: Store, asked: list[pa.Table], how: EvaluateConfig, seed: int) -> list[NDArray[np.float64]]:
    """Return a model's denoising losses (images, noise levels) of each part, records with `image` and `prompt`.

    The same draws for everybody: members and strangers must meet the same noise to be comparable.
    """
    sampler = Sampler(model.keep_local(), how.compute.device)
    return [
        sampler.denoising_losses(
            pixels(part),
            part["prompt"].to_pylist(),
            fractions=how.membership_timesteps,
            seeds=[derive_seed(seed, "membership", draw) for draw in range(DRAWS)],
            batch_size=BATCH,
        )
        for part in asked
    ]
