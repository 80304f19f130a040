"""The search's best settings looked at more closely: rung by rung more classifiers, for fewer settings.

A linear probe on public features is what a trial can afford. What the released data is for is a network trained on it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

from raydistill.core.progress import Progress
from raydistill.core.section import Compute
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.distributed.task import run_on_workers
from raydistill.metrics.classifier import predict
from raydistill.metrics.result import MetricResult, insufficient
from raydistill.metrics.utility import macro_auroc
from raydistill.stages.classifier import train_classifier

FEWEST = 4
"""Settings whose order can be compared at all: three agree by chance in one of six."""


ALONE = Compute(num_workers=1)


@dataclass(frozen=True)
class Pictures:
    """What classifiers are trained and tested on.

    Args:
        images: uint8 (N, R, R), samples that say what they show; `labels` (N, F) of 0 and 1.
        tested: uint8 (M, R, R), calibration images; `truth` (M, F), `patients` (M,).
        steps: of each training.
        seed: root of the trainings' seeds.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    tested: NDArray[np.uint8]
    truth: NDArray[np.float32]
    patients: NDArray[Any]
    steps: int
    seed: int


def climb(
    table: pd.DataFrame,
    kept: Callable[[int], NDArray[np.bool_]],
    pictures: Pictures,
    most: int,
    work: Store,
    progress: Progress,
) -> pd.DataFrame:
    """Train networks on what the best settings keep; after every rung the better half goes on.

    The settings of a rung cost the same, so nothing is gained by not waiting for all of them; and who goes on doesn't
    depend on who is ready first.

    Args:
        table: trials, with `feasible`, `objective` and `utility`.
        kept: says which of the N pictures a row's setting keeps.
        pictures: what to train and test on.
        most: settings of the first rung, at most.
        work: where what was measured outlives a kill.
        progress: told of each rung's trainings.

    Returns:
        Two columns for the table: `network_utility`, the networks' mean macro AUROC on calibration patients, and
        `networks`, how many they are; NaN and 0 for settings that took no part.

    Source: successive halving, Jamieson and Talwalkar 2016 (AISTATS).
    """
    result = pd.DataFrame({"network_utility": np.nan, "networks": 0}, index=table.index)
    chosen = candidates_of(table, kept, most)
    sets = {row: kept(row) for row in chosen}
    reached: dict[int, list[float]] = {row: [] for row in chosen}
    alive, rung = chosen, 0
    while alive and (rung == 0 or len(alive) > 1):
        looking = partial(train_one, rung=rung, work=work)
        areas = run_on_workers(looking, (pictures, sets), alive, ALONE, progress, "networks")
        for row, area in zip(alive, areas, strict=True):
            reached[row].append(area)
            result.loc[row, "network_utility"] = np.mean(reached[row])
            result.loc[row, "networks"] = len(reached[row])
        best_first = result.loc[alive, "network_utility"].sort_values(ascending=False, kind="stable").index
        alive, rung = sorted(best_first[: len(alive) // 2].tolist()), rung + 1
    return result


def candidates_of(table: pd.DataFrame, kept: Callable[[int], NDArray[np.bool_]], most: int) -> list[int]:
    """Return the rows of the best feasible trials, of those that keep the same samples one."""
    order = table[table["feasible"]].sort_values("objective", ascending=False, kind="stable").index
    seen: set[bytes] = set()
    rows: list[int] = []
    for row in order:
        if len(rows) == most:
            break
        same = kept(int(row)).tobytes()
        if same not in seen:
            seen.add(same)
            rows.append(int(row))
    return sorted(rows)


def train_one(shared: tuple[Pictures, Mapping[int, NDArray[np.bool_]]], row: int, rung: int, work: Store) -> float:
    """Train one network on what a row's setting keeps, unless that was done before a kill.

    Returns:
        Its macro AUROC on calibration images; NaN where none can be measured.
    """
    pictures, sets = shared
    name = f"rungs/{rung}-{hashlib.sha256(sets[row].tobytes()).hexdigest()[:16]}.json"
    if not work.exists(name):
        keep, seed = sets[row], derive_seed(pictures.seed, "rung", rung)
        model = train_classifier(pictures.images[keep], pictures.labels[keep], pictures.steps, seed, ALONE)
        area = macro_auroc(pictures.truth, predict(model, pictures.tested), pictures.patients, bootstrap=0)
        work.write_json(name, {"area": area.value})
    area_there = work.read_json(name)["area"]
    return float("nan") if area_there is None else float(area_there)


def rank_agreement(table: pd.DataFrame, confidence: float) -> MetricResult:
    """Return how far probe and network rank the settings alike that both looked at.

    Args:
        table: with `utility` and `network_utility`.
        confidence: that a result without an interval is said to have.

    Source: Kendall 1938, tau-b.
    """
    both = table[["utility", "network_utility"]].dropna()
    unit = "Kendall's tau of probe and network"
    if len(both) < FEWEST or both["utility"].nunique() < 2 or both["network_utility"].nunique() < 2:
        why = f"{len(both)} settings were looked at by both; {FEWEST} that differ are needed"
        return insufficient(why, n=len(both), unit=unit, confidence=confidence, reference="Kendall 1938")
    tau = kendalltau(both["utility"], both["network_utility"])
    return MetricResult(
        value=float(tau.statistic),
        n=len(both),
        unit=unit,
        estimator="tau-b over the settings that went into the first rung",
        confidence=confidence,
        baseline=0.0,
        reference="Kendall 1938",
        note=f"of {len(both)} settings; as much by chance with p = {float(tau.pvalue):.2g}",
    )
