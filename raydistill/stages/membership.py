"""The membership attack's part of an evaluation: ask the model itself whom it was trained on."""

from collections import Counter
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.config import EvaluateConfig
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.diffusion.sampling import Sampler
from raydistill.metrics.membership import membership_attack
from raydistill.metrics.result import MetricResult
from raydistill.stages.base import Context
from raydistill.stages.images import at_most, pixels, read_sampled

BATCH, DRAWS = 32, 4
"""Images at a time, and noise draws a loss is averaged over; draws times noise levels is the attacker's budget."""

SIDES = ("train", "evaluation")
COLUMNS = ["image_id", "patient_id", "image", "prompt"]


def attacked(context: Context, how: EvaluateConfig) -> dict[str, MetricResult]:
    """Attack by the model's losses; where there is a shadow model, also beside the difficulty of each image.

    Args:
        context: with the inputs `model`, `train`, `evaluation`, and maybe `shadow`, a model that saw neither.
        how: the attacker's budget.

    Returns:
        What `membership_attack` gives, and with a shadow model the same as `membership_calibrated_…`, and
        `membership_shadow_auc`: how far the shadow, which saw neither side, tells them apart. That must be nothing.
    """
    seed, asked = context.seed, []
    sides = [read_sampled({"images": context.inputs[role]}, COLUMNS, how.max_images, seed) for role in SIDES]
    # Alike in how many images a patient has: train patients are bounded, and members must differ in nothing else.
    most = max(Counter(sides[0]["patient_id"].to_pylist()).values(), default=0)
    sides = [at_most(table, most, derive_seed(seed, "patients")) for table in sides]
    size = min(*(table.num_rows for table in sides), how.membership_images)
    for name, table in zip(("members", "strangers"), sides, strict=True):
        rows = np.random.default_rng(derive_seed(seed, name)).permutation(table.num_rows)[:size]
        asked.append(table.take(np.sort(rows)))
    patients = [part["patient_id"].to_numpy() for part in asked]
    losses = losses_of(context.inputs["model"], asked, how, seed)
    attack = partial(
        membership_attack, confidence=how.confidence, bootstrap=how.bootstrap, seed=derive_seed(seed, "bootstrap")
    )
    metrics = attack(*losses, *patients)
    if "shadow" not in context.inputs:
        return metrics
    members, strangers = losses_of(context.inputs["shadow"], asked, how, seed)
    calibrated = attack(*losses, *patients, member_reference=members, nonmember_reference=strangers)
    metrics |= {name.replace("membership_", "membership_calibrated_"): m for name, m in calibrated.items()}
    return metrics | {"membership_shadow_auc": attack(members, strangers, *patients)["membership_auc"]}


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
