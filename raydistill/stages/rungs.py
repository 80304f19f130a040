"""The search's best settings looked at more closely: rung by rung more classifiers, for fewer settings.

A linear probe on public features is what a trial can afford. What the released data is for is a network trained on it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raydistill.core.progress import Progress
from raydistill.core.section import Compute
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.metrics.utility import macro_auroc
from raydistill.stages.classifier import Lesson, Pupil, teach


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
) -> tuple[pd.DataFrame, dict[int, NDArray[np.float64]]]:
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
        they are; NaN and 0 for settings that took no part. And what they said, by row: (S, M, F) probabilities.

    Source: successive halving, Jamieson and Talwalkar 2016 (AISTATS).
    """
    result = pd.DataFrame({"network_utility": np.nan, "network_spread": np.nan, "networks": 0}, index=table.index)
    alive, rung = candidates_of(table, kept, most), 0
    sets = {str(row): kept(row) for row in alive}
    said: dict[int, list[NDArray[np.float64]]] = {row: [] for row in alive}
    while alive:
        pupils = [Pupil(str(row), derive_seed(seed, "rung", rung)) for row in alive]
        for row, answers in zip(alive, teach(lesson, sets, pupils, compute, work, progress), strict=True):
            said[row].append(answers)
            reached = [area_of(truth, own) for own in said[row]]
            spread = np.std(reached, ddof=1) if rung else np.nan
            result.loc[row] = [np.mean(reached), spread, len(reached)]
        best_first = result.loc[alive, "network_utility"].sort_values(ascending=False, kind="stable").index
        is_last, rung = len(alive) <= (2 if rung else 1), rung + 1
        alive = [] if is_last else sorted(best_first[: max(2, len(alive) // 2)].tolist())
    return result.astype({"networks": int}), {row: np.stack(own) for row, own in said.items()}


def first_look(
    rows: Sequence[int],
    kept: Callable[[int], NDArray[np.bool_]],
    lesson: Lesson,
    truth: tuple[NDArray[np.float32], NDArray[Any]],
    seed: int,
    compute: Compute,
    work: Store,
    progress: Progress,
) -> pd.Series:
    """Return by row the macro AUROC of one network each, of the first rung's seed: candidates' aren't trained again.

    Args:
        rows: settings that a network looks at.
        kept: as for `climb`, like all others.
        lesson: as there.
        truth: as there.
        seed: as there.
        compute: as there.
        work: as there.
        progress: as there.
    """
    pupils = [Pupil(str(row), derive_seed(seed, "rung", 0)) for row in rows]
    said = teach(lesson, {str(row): kept(row) for row in rows}, pupils, compute, work, progress) if rows else []
    return pd.Series({row: area_of(truth, own) for row, own in zip(rows, said, strict=True)}, dtype=float)


def area_of(truth: tuple[NDArray[np.float32], NDArray[Any]], answers: NDArray[np.float64]) -> float:
    """Return the macro AUROC of answers (M, F), by what images show (M, F) and whose they are (M,); NaN without any."""
    area = macro_auroc(truth[0], answers, truth[1], bootstrap=0).value
    return float("nan") if area is None else area


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
    return sorted(distinct(order, kept, most))


def distinct(rows: Iterable[int], kept: Callable[[int], NDArray[np.bool_]], most: int | None = None) -> list[int]:
    """Return the first rows, in their order and at most so many, of which no two keep the same samples."""
    seen: dict[bytes, int] = {}
    for row in rows:
        if most is not None and len(seen) == most:
            break
        seen.setdefault(kept(int(row)).tobytes(), int(row))
    return list(seen.values())
