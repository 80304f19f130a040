"""The search's best settings looked at more closely: rung by rung more classifiers, for fewer settings.

A linear probe on public features is what a trial can afford. What the released data is for is a network trained on it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

from raydistill.core.progress import Progress
from raydistill.core.section import Compute
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.metrics.result import MetricResult, insufficient
from raydistill.metrics.utility import macro_auroc
from raydistill.stages.classifier import Lesson, Pupil, teach

FEWEST = 4
"""Settings whose order can be compared at all: three agree by chance in one of six."""


def climb(
    table: pd.DataFrame,
    kept: Callable[[int], NDArray[np.bool_]],
    lesson: Lesson,
    truth: tuple[NDArray[np.float32], NDArray[Any]],
    most: int,
    seed: int,
    compute: Compute,
    work: Store,
    progress: Progress,
) -> pd.DataFrame:
    """Train networks on what the best settings keep; after every rung the better half goes on, and no fewer than two.

    So the last two have two networks at least, by which it can be told whether they differ.

    The settings of a rung cost the same, so nothing is gained by not waiting for all of them; and who goes on doesn't
    depend on who is ready first.

    Args:
        table: trials, with `feasible`, `objective` and `utility`.
        kept: says which of the lesson's N images a row's setting keeps.
        lesson: what to train and test on, the latter calibration images.
        truth: (M, F) what these show, and (M,) whose they are.
        most: settings of the first rung, at most.
        seed: root of the trainings' seeds.
        compute: size of the worker of each.
        work: where what was measured outlives a kill.
        progress: told of each rung's trainings.

    Returns:
        Three columns for the table: `network_utility`, the networks' mean macro AUROC on calibration patients,
        `network_spread`, its standard deviation from network to network, NaN of a single one, and `networks`, how many
        they are; NaN and 0 for settings that took no part.

    Source: successive halving, Jamieson and Talwalkar 2016 (AISTATS).
    """
    result = pd.DataFrame({"network_utility": np.nan, "network_spread": np.nan, "networks": 0}, index=table.index)
    alive, rung = candidates_of(table, kept, most), 0
    sets = {str(row): kept(row) for row in alive}
    reached: dict[int, list[float]] = {row: [] for row in alive}
    while alive:
        pupils = [Pupil(str(row), derive_seed(seed, "rung", rung)) for row in alive]
        for row, answers in zip(alive, teach(lesson, sets, pupils, compute, work, progress), strict=True):
            area = macro_auroc(truth[0], answers, truth[1], bootstrap=0).value
            reached[row].append(float("nan") if area is None else area)
            spread = np.std(reached[row], ddof=1) if rung else np.nan
            result.loc[row] = [np.mean(reached[row]), spread, len(reached[row])]
        best_first = result.loc[alive, "network_utility"].sort_values(ascending=False, kind="stable").index
        is_last, rung = len(alive) <= (2 if rung else 1), rung + 1
        alive = [] if is_last else sorted(best_first[: max(2, len(alive) // 2)].tolist())
    return result.astype({"networks": int})


def luck_of(table: pd.DataFrame, networks: int) -> float:
    """Return the standard error of a difference between two settings that so many networks looked at, each.

    It is that of the networks' seeds alone, pooled over all settings with more than one; 0 where there is none.

    Args:
        table: with what `climb` found.
        networks: how many.
    """
    several = table[table["networks"] > 1]
    freedom = several["networks"] - 1
    if several.empty:
        return 0.0
    variance = float((freedom * several["network_spread"] ** 2).sum() / freedom.sum())
    return float(np.sqrt(2 * variance / networks))


def candidates_of(
    table: pd.DataFrame,
    kept: Callable[[int], NDArray[np.bool_]],
    most: int,
    by: Sequence[str] = ("objective",),
) -> list[int]:
    """Return the rows of the best feasible trials whose utility is known, of those that keep the same samples one.

    Args:
        table: trials.
        kept: says which samples a row's setting keeps.
        most: rows.
        by: columns to rank them by, the first decides; more is better.
    """
    able = table[table["feasible"] & table["utility"].notna()]
    order = able.sort_values(list(by), ascending=False, kind="stable").index
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
