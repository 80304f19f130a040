"""Search the filter's settings with Ray Tune: the most useful data set whose risk stays inside its bound.

Utility is measured on calibration patients, risk by the judge, a network the filter never used. Evaluation patients
are not an input of this stage.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.progress import Standings
from raydistill.core.searching import TuneConfig
from raydistill.diffusion.features import public_digest
from raydistill.distributed.hparams import write_hparams
from raydistill.distributed.tune import Bounds, Search, search
from raydistill.metrics.importances import importances
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.classifier import Lesson
from raydistill.stages.evidence import read_evidence, with_pictures
from raydistill.stages.outcomes import broken, broken_in_words, different, outcomes_in_words
from raydistill.stages.rungs import climb, luck_of, rank_agreement
from raydistill.stages.short_student import student_utility, what_decides
from raydistill.stages.space import bounds_of, cut_fpirs, cut_prompts, in_reach, searched, setting_of
from raydistill.stages.trial import Evidence, TuneNodeConfig, evaluate_setting, kept_by, policy_for

GOALS = {"objective": "max", "risk_high": "min", "kept_share": "max"}
"""What is searched for: the first alone, or all of them."""

MEASURED, SHOWN = ("utility", "kept_share", "risk_high", "near_copies_high"), 5
"""What a terminal shows of the best trials so far, before their settings, and of how many."""

FEW = 0.5
"""Different outcomes that are few, as a share of the settings that were tried."""


class Tune(Stage):
    """Inputs: `samples`, `sharing`, `calibration`, `findings`, `matches` (the filter's eye), `judge` (the judge's).

    Output: `policy/policy.json`, `metrics.json`; as `part-00000.parquet` `trials/`, `panel/`, and
    `importances/` where there is something to tell apart.
    """

    version: ClassVar[int] = 13
    config: TuneNodeConfig

    def key_config(self) -> dict[str, Any]:
        """Put the public weights that look at the images into the key; leave out what is done afterwards."""
        key, student = super().key_config(), self.config.student
        for name in ("rule_seeds", "student_share", "student_samples"):
            del key["tune"][name]
        if student:
            key["student"] = what_decides(key["student"], student)
        else:
            del key["tune"]["students"], key["student"]
        return {**key, "features": public_digest()}

    def run(self, context: Context) -> Outcome:
        """Search, choose, and write the whole frontier beside the choice."""
        evidence = read_evidence(context, self.config)
        asked = self.config.tune.space
        space = in_reach(asked, evidence.supported_fpir, evidence.most_sharing)
        cut = cut_fpirs(asked, space, evidence.calibration_patients)
        config = self.config.model_copy(update={"tune": self.config.tune.model_copy(update={"space": space})})
        plan = plan_of(config.tune, context.seed)
        # What Ray Tune writes is kept with what people watch: `ray.tune.Tuner.restore` opens it as a `ResultGrid`.
        stores = context.work, context.logs or context.work
        found = partial(_show, context.standings, list(plan.bounds))
        trials = search(evaluate_setting, {"config": config}, evidence, plan, *stores, context.progress, found)
        # No trial looks at pictures, which may be gigabytes.
        evidence = with_pictures(evidence, context, config)
        table = pd.DataFrame(trials).sort_values(list(bounds_of(space)), ignore_index=True)
        kept, goal = _kept(table, evidence, config), config.tune.goal
        table["pareto"] = undominated(table)
        table = table.join(_climb(eligible(table, goal), kept, evidence, config, context))
        if config.student:
            table["student_utility"] = student_utility(eligible(table, goal), kept, evidence, config, context)
        table["chosen"] = table.index == choose(eligible(table, goal))
        best = table[table["chosen"]].iloc[0]
        setting = setting_of(space, {str(name): value for name, value in best.items()})
        breaks, policy = broken(table), policy_for(setting, evidence, config)
        said: dict[str, Any] = {"note": "; ".join(filter(None, [*cut, policy.note]))}
        if not best["feasible"]:
            said |= {"is_feasible": False, "broken": broken_in_words(breaks, len(table))}
        policy = policy.model_copy(update=said)
        context.out.write_json("policy/policy.json", policy.model_dump(mode="json"))
        context.out.write_table("trials/part-00000.parquet", pa.Table.from_pandas(table, preserve_index=False))
        context.out.write_table("panel/part-00000.parquet", pa.table({"sample_id": evidence.panel_ids()}))
        on_log = {name for name, ends in plan.bounds.items() if isinstance(ends, Bounds) and ends.is_log}
        shares = importances(table[list(plan.bounds)], table["objective"], on_log, context.seed)
        if shares:
            columns = {"setting": list(shares), "importance": list(shares.values())}
            context.out.write_table("importances/part-00000.parquet", pa.table(columns))
        agreement = rank_agreement(table, config.confidence)
        context.out.write_json("metrics.json", {"rank_agreement": agreement.model_dump(mode="json")})
        if context.logs and context.tracking.tensorboard:
            measured = ["objective", "kept_share", "risk_high", "utility", "network_utility", "student_utility"]
            measured = [name for name in measured if name in table]
            records: Any = table.to_dict("records")
            write_hparams(context.logs, records, list(plan.bounds), measured)
        chosen = setting | {name: float(best[name]) for name in ("utility", "kept_share", "risk_high")}
        return Outcome(
            counts={"trials": len(table), "feasible": int(table["feasible"].sum())},
            facts={
                "chosen": {name: value for name, value in chosen.items() if np.isfinite(value)},
                "chosen_is_feasible": bool(best["feasible"]),
                "broken": breaks,
                "outcomes": different(table),
                "notes": [*cut, *cut_prompts(asked, space), *_sameness(table)],
            },
        )


def plan_of(how: TuneConfig, seed: int) -> Search:
    """Return what is searched, how and how long.

    Args:
        how: with a space of FPIRs in reach.
        seed: of the sampler.
    """
    return Search(
        bounds=searched(how.space),
        goals=GOALS if how.goal == "pareto" else {"objective": "max"},
        num_trials=how.num_trials,
        batch=how.trials_per_batch,
        seed=seed,
        algorithm=how.algorithm,
    )


def _kept(table: pd.DataFrame, evidence: Evidence, config: TuneNodeConfig) -> Callable[[int], NDArray[np.bool_]]:
    """Return what says which of the samples that are looked at (N,) a trial's setting keeps."""
    space = config.tune.space
    settings = table[list(bounds_of(space))].to_dict("records")

    def kept(row: int) -> NDArray[np.bool_]:
        setting = setting_of(space, {str(name): value for name, value in settings[row].items()})
        return kept_by(policy_for(setting, evidence, config), evidence, config)

    return kept


def _climb(
    table: pd.DataFrame,
    kept: Callable[[int], NDArray[np.bool_]],
    evidence: Evidence,
    config: TuneNodeConfig,
    context: Context,
) -> pd.DataFrame:
    """Let networks look at the best settings; at none, where nothing can be taught or tested."""
    taught = evidence.has_labels
    return climb(
        table,
        lambda row: kept(row)[taught],
        Lesson(evidence.images[taught], evidence.labels[taught], evidence.test_images, config.network_steps),
        (evidence.test_labels, evidence.test_patients),
        config.tune.candidates,
        context.seed,
        config.compute,
        context.work,
        context.progress,
    )


def _sameness(table: pd.DataFrame) -> list[str]:
    """Say how many different outcomes there are, where there are few."""
    found = different(table)
    few = [f"{len(table)} settings were tried, which come to {outcomes_in_words(found)}"]
    return few if found <= FEW * len(table) else []


def _show(standings: Standings, settings: list[str], trials: list[dict[str, Any]]) -> None:
    """Show the best trials so far."""
    best = sorted(trials, key=lambda trial: (trial["excess"], -trial["objective"]))[:SHOWN]
    standings([{name: trial[name] for name in (*MEASURED, *settings)} for trial in best])


def eligible(table: pd.DataFrame, goal: str) -> pd.DataFrame:
    """Return trials with those alone feasible that may be chosen: with several goals, those on their Pareto front.

    What another setting beats in every goal isn't chosen, however useful a network finds it.
    """
    return table.assign(feasible=table["pareto"]) if goal == "pareto" else table


def choose(table: pd.DataFrame) -> int:
    """Return the row of the best trial: most useful among the feasible, else the one nearest to feasible.

    Who got a student is better than the others, then whom more networks looked at. Those within one standard error of
    the best, of networks' luck (`rungs.luck_of`), are equal: the least risk decides. A student is looked at by one
    network. Equal ones go to the setting with less risk, then to the one that comes first in the table.

    Source: the rule of one standard error, Breiman et al. 1984, Classification and Regression Trees, section 3.4.3.
    """
    ways = {"feasible": False, "excess": True, "student_utility": False, "networks": False, "network_utility": False}
    ways |= {"objective": False, "risk_high": True}
    ways = {name: way for name, way in ways.items() if name in table}
    order = table.sort_values(list(ways), ascending=list(ways.values()), kind="stable")
    best = order.iloc[0]
    if pd.notna(best.get("student_utility")):
        by, peers, networks = "student_utility", order, 1
    elif best["networks"] > 1 and pd.notna(best["network_utility"]):
        by, peers, networks = "network_utility", order[order["networks"] == best["networks"]], int(best["networks"])
    else:
        return int(order.index[0])
    equal = peers[peers["feasible"] & (peers[by] >= best[by] - luck_of(table, networks))]
    return int(equal.sort_values("risk_high", kind="stable").index[0])


def undominated(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Say which feasible trials no other feasible one matches in every goal and betters in one: the Pareto front."""
    signs = np.array([1 if way == "max" else -1 for way in GOALS.values()])
    reached = table[list(GOALS)].to_numpy(float) * signs
    feasible = table["feasible"].to_numpy(bool)
    others = reached[feasible]
    better = [bool(((others >= row).all(axis=1) & (others > row).any(axis=1)).any()) for row in reached]
    return np.asarray(feasible & ~np.array(better, bool))
