"""Which setting is taken: the most useful whose risk keeps its bounds, as far as so few patients can tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raydistill.metrics.influence import influence, standard_error
from raydistill.stages.rungs import candidates_of, luck_of
from raydistill.stages.trial import Evidence, probed

GOALS = {"objective": "max", "risk_high": "min", "kept_share": "max"}
"""What is searched for: the first alone, or all of them."""

PROBED = 16
"""The probe's best, of which it is asked whether they can be told from its very best, where nobody else looked."""

Answers = Mapping[int, NDArray[np.float64]]
"""By row of the table, (N, F) or (S, N, F): what classifiers said of calibration images."""


DECIDES = {
    "objective": "what every trial measures",
    "network_utility": "networks' AUROC",
    "student_utility": "AUROC of networks that learned from short students",
}


@dataclass(frozen=True)
class Choice:
    """The trial that is taken, and why.

    Attributes:
        row: of the table.
        by: column that decided.
        reached: what the trial has there; `best`, the most that a trial has that was looked at alike.
        equal: trials that can't be told from the best, itself among them.
    """

    row: int
    by: str
    reached: float
    best: float
    equal: int = 1

    def why(self) -> str:
        """Say it in a sentence."""
        said = f"chosen by {DECIDES[self.by]}: {self.reached:.4g}"
        if self.equal == 1:
            return f"{said}, the best"
        return (
            f"{said}, and the best has {self.best:.4g}; of {self.equal} settings within one standard error of that, "
            "which these patients can't tell apart, the one with the least risk was taken"
        )


def eligible(table: pd.DataFrame, goal: str) -> pd.DataFrame:
    """Return trials with those alone feasible that may be chosen: with several goals, those on their Pareto front.

    What another setting beats in every goal isn't chosen, however useful a network finds it.
    """
    return table.assign(feasible=table["pareto"]) if goal == "pareto" else table


def undominated(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Say which feasible trials no other feasible one matches in every goal and betters in one: the Pareto front."""
    signs = np.array([1 if way == "max" else -1 for way in GOALS.values()])
    reached = table[list(GOALS)].to_numpy(float) * signs
    feasible = table["feasible"].to_numpy(bool)
    others = reached[feasible]
    better = [bool(((others >= row).all(axis=1) & (others > row).any(axis=1)).any()) for row in reached]
    return np.asarray(feasible & ~np.array(better, bool))


def said_by(
    table: pd.DataFrame,
    kept: Callable[[int], NDArray[np.bool_]],
    evidence: Evidence,
    networks: Answers,
    students: Answers,
) -> dict[str, Answers]:
    """Return the answers that utilities come from, by what they are called in the table: those that decide.

    Args:
        table: trials, with those alone feasible that may be chosen.
        kept: says which of the samples that are looked at a row's setting keeps.
        evidence: what a probe learns from, and is tested on.
        networks: what networks said of the candidates.
        students: what those said that learned from short students.
    """
    if students or (table["networks"] > 1).any() or not evidence.can_teach:
        return {"student_utility": students, "network_utility": networks}
    best = candidates_of(table, kept, PROBED)
    return {"objective": {row: probed(evidence, kept(row)) for row in best}}


def choose(table: pd.DataFrame, moved: Mapping[str, Mapping[int, NDArray[np.float64]]]) -> Choice:
    """Return the best trial: most useful among the feasible, else the one nearest to feasible.

    Who got a student is better than the others, then whom more networks looked at. How useful a setting is, is known by
    the calibration patients there happen to be, and by networks' seeds: to take the very best of many would mostly be
    to take the luckiest, at whatever risk. So those within one standard error of the best are equal, and of them the
    one with the least risk is taken; of equal risks the more useful. The error is that of the difference, from sample
    to sample of patients, who are the same for both, and of networks' luck (`rungs.luck_of`). A student is looked at by
    one network; a probe has no luck. Thus the utility that is given up is about one standard error at most, a small one
    where there are many patients or settings that are alike.

    Args:
        table: trials, with those alone feasible that may be chosen.
        moved: by what decides (`student_utility`, `network_utility`, `objective`), of each row that was looked at alike
            how much each patient moves its utility, `metrics.influence`. Of others the best is taken as it is.

    Source: the rule of one standard error, Breiman et al. 1984, Classification and Regression Trees, section 3.4.3.
    """
    ways = {"feasible": False, "excess": True, "student_utility": False, "networks": False, "network_utility": False}
    ways |= {"objective": False, "risk_high": True}
    ways = {name: way for name, way in ways.items() if name in table}
    order = table.sort_values(list(ways), ascending=list(ways.values()), kind="stable")
    best, row = order.iloc[0], int(order.index[0])
    by, networks = "objective", 0
    if pd.notna(best.get("student_utility")):
        by, networks = "student_utility", 1
    elif best["networks"] > 1 and pd.notna(best["network_utility"]):
        by, networks = "network_utility", int(best["networks"])
        order = order[order["networks"] == networks]
    known, alone = moved.get(by, {}), Choice(row, by, float(best[by]), float(best[by]))
    if row not in known:
        return alone
    luck = luck_of(table, networks) if networks else 0.0
    peers = order[order["feasible"] & order.index.isin(list(known))]
    errors = [np.hypot(standard_error(known[row] - known[int(at)]), luck) for at in peers.index]
    equal = peers[best[by] - peers[by] <= errors]
    if not len(equal):
        return alone
    taken = equal.sort_values("risk_high", kind="stable")
    return Choice(int(taken.index[0]), by, float(taken.iloc[0][by]), float(best[by]), len(equal))


def moved_by(answers: Mapping[str, Answers], labels: Any, patients: Any) -> dict[str, dict[int, NDArray[np.float64]]]:
    """Return how much each patient moves what came of answers, for `choose`.

    Args:
        answers: of `said_by`.
        labels: (N, F) what the images show.
        patients: (N,) whose they are.
    """
    return {
        by: {row: influence(labels, own, patients) for row, own in of_rows.items()} for by, of_rows in answers.items()
    }
