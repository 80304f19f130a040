"""Search the filter's settings with Ray Tune: the most useful data set whose risk stays inside its bound.

Utility is measured on calibration patients, risk by the judge, a network the filter never used. Evaluation patients
are not an input of this stage.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.config import Config
from raydistill.core.progress import Standings
from raydistill.core.searching import TuneConfig
from raydistill.core.section import Compute
from raydistill.diffusion.features import public_digest
from raydistill.distributed.hparams import write_hparams
from raydistill.distributed.tune import Bounds, Search, search
from raydistill.matching.policy import make_policy
from raydistill.metrics.importances import importances
from raydistill.stages.agreement import drawn, rank_agreement
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.choosing import GOALS, Answers, choose, eligible, moved_by, said_by, undominated
from raydistill.stages.classifier import Lesson
from raydistill.stages.evidence import read_evidence, with_pictures
from raydistill.stages.filter import ANY_THRESHOLDS
from raydistill.stages.outcomes import broken, broken_in_words, different, outcomes_in_words
from raydistill.stages.rungs import climb, first_look
from raydistill.stages.short_student import student_utility, what_decides
from raydistill.stages.space import bounds_of, cut_fpirs, cut_prompts, in_reach, searched, setting_of
from raydistill.stages.trial import Evidence, TuneNodeConfig, evaluate_setting, kept_by, policy_for

MEASURED, SHOWN = ("utility", "kept_share", "risk_high", "near_copies_high"), 5
"""What a terminal shows of the best trials so far, before their settings, and of how many."""

FEW = 0.5
"""Different outcomes that are few, as a share of the settings that were tried."""


class Tune(Stage):
    """Inputs: `samples`, `sharing`, `calibration`, `findings`, `matches` (the filter's eye), `judge` (the judge's).

    Output: `policy/policy.json`, `metrics.json`; as `part-00000.parquet` `trials/`, `panel/`, and
    `importances/` where there is something to tell apart.
    """

    version: ClassVar[int] = 16
    config: TuneNodeConfig

    def asks(self) -> dict[str, Compute]:
        """Return what trials and networks ask for, and short students where there are any."""
        student = self.config.student
        more = {f"{self.node} for its short students": student.training.compute} if student else {}
        return super().asks() | more

    def check(self, config: Config) -> None:
        """Refuse somebody's own policy that can't be imported."""
        make_policy(self.config.filter, ANY_THRESHOLDS)

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
        plan = replace(plan_of(config.tune, context.seed), label_selector=config.compute.label_selector)
        # What Ray Tune writes is kept with what people watch: `ray.tune.Tuner.restore` opens it as a `ResultGrid`.
        stores = context.work, context.logs or context.work
        found = partial(_show, context.standings, list(plan.bounds))
        trials = search(evaluate_setting, {"config": config}, evidence, plan, *stores, context.progress, found)
        # No trial looks at pictures, which may be gigabytes.
        evidence = with_pictures(evidence, context, config)
        table = pd.DataFrame(trials).sort_values(list(bounds_of(space)), ignore_index=True)
        kept, goal = _kept(table, evidence, config), config.tune.goal
        table["pareto"] = undominated(table)
        table, networks = _climb(table, kept, evidence, config, context)
        students: Answers = {}
        if config.student:
            given = eligible(table, goal), kept, evidence, config, context
            table["student_utility"], students = student_utility(*given)
        said = said_by(eligible(table, goal), kept, evidence, networks, students)
        moved = moved_by(said, evidence.test_labels, evidence.test_patients)
        choice = choose(eligible(table, goal), moved)
        table["chosen"] = table.index == choice.row
        best = table[table["chosen"]].iloc[0]
        setting = setting_of(space, {str(name): value for name, value in best.items()})
        breaks, policy = broken(table), policy_for(setting, evidence, config)
        remarks: dict[str, Any] = {"note": "; ".join(filter(None, [*cut, policy.note]))}
        if not best["feasible"]:
            remarks |= {"is_feasible": False, "broken": broken_in_words(breaks, len(table))}
        policy = policy.model_copy(update=remarks)
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
        why = {"why": choice.why()} if best["feasible"] else {}
        chosen = setting | {name: float(best[name]) for name in ("utility", "kept_share", "risk_high")}
        return Outcome(
            counts={"trials": len(table), "feasible": int(table["feasible"].sum())},
            facts={
                "chosen": {name: value for name, value in chosen.items() if np.isfinite(value)},
                "chosen_is_feasible": bool(best["feasible"]),
                "broken": breaks,
                "outcomes": different(table),
                "notes": [*cut, *cut_prompts(asked, space), *_sameness(table), *why.values()],
                **why,
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
) -> tuple[pd.DataFrame, Answers]:
    """Let networks look at the best settings, and at some drawn by chance; at none, where nothing can be told.

    Returns:
        The table of trials with what they found, and what they said of the best.
    """
    taught, how = evidence.has_labels, config.tune
    lesson = Lesson(evidence.images[taught], evidence.labels[taught], evidence.test_images, config.network_steps)
    truth = evidence.test_labels, evidence.test_patients

    def learned(row: int) -> NDArray[np.bool_]:
        return kept(row)[taught]

    best, where = eligible(table, how.goal), (config.compute, context.work, context.progress)
    columns, said = climb(best, learned, lesson, truth, how.candidates, context.seed, *where)
    rows = drawn(table, learned, how.agreement, context.seed)
    columns["agreement_utility"] = first_look(rows, learned, lesson, truth, context.seed, *where)
    return table.join(columns), said


def _sameness(table: pd.DataFrame) -> list[str]:
    """Say how many different outcomes there are, where there are few."""
    found = different(table)
    few = [f"{len(table)} settings were tried, which come to {outcomes_in_words(found)}"]
    return few if found <= FEW * len(table) else []


def _show(standings: Standings, settings: list[str], trials: list[dict[str, Any]]) -> None:
    """Show the best trials so far."""
    best = sorted(trials, key=lambda trial: (trial["excess"], -trial["objective"]))[:SHOWN]
    standings([{name: trial[name] for name in (*MEASURED, *settings)} for trial in best])
