"""Searches with Ray Tune and Optuna: trials share read-only data, and an interrupted search keeps its trials."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raydistill.core.errors import TrainingError
from raydistill.core.progress import Progress
from raydistill.core.store import Store
from raydistill.distributed.board import board
from raydistill.distributed.claims import root_cause

NAME = "search"
CPUS_PER_TRIAL = 1.0
MAX_FAILURES = 2
"""Times that a trial is tried again."""
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
"""Variables that Ray Tune would copy."""
MEASURED = "measured"
"""Where what a trial came to outlives a kill, a file for each setting."""


@dataclass(frozen=True)
class Bounds:
    """Where a setting may lie.

    Args:
        low: smallest value.
        high: largest value.
        is_log: whether it is the logarithm that is spread evenly.
        is_whole: whether values are whole numbers.
    """

    low: float
    high: float
    is_log: bool = True
    is_whole: bool = False


@dataclass(frozen=True)
class Search:
    """What is searched, how, and how long.

    Args:
        bounds: range of each setting, or all that it may be. With none, the one setting there is is measured.
        goals: what to make large ("max") or small ("min"), by name in what is measured.
        num_trials: settings tried.
        batch: trials that are suggested together; as many run at a time as the cluster has room for.
        seed: of the sampler.
        algorithm: "tpe", "nsga2", "random", or "grid", which tries no more than `num_trials`, evenly spread.
        label_selector: of the nodes that trials run on, as that of `Compute`: they are given what is `shared`.
    """

    bounds: Mapping[str, Bounds | Sequence[Any]]
    goals: dict[str, str]
    num_trials: int
    batch: int
    seed: int
    algorithm: str = "tpe"
    label_selector: Mapping[str, str] = field(default_factory=dict)


def search(
    measure: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    shared: Any,
    space: Search,
    work: Store,
    logs: Store,
    progress: Progress,
    found: Callable[[list[dict[str, Any]]], None] | None = None,
) -> list[dict[str, Any]]:
    """Search a space.

    Args:
        measure: importable; `measure(setting, shared, **arguments)` returns a dict with every goal, and `constraints`:
            by name, by how much the setting breaks a bound; 0 or less keeps it.
        arguments: small keyword arguments.
        shared: read-only data, put into the object store once.
        space: what to search.
        work: where what trials came to outlives a kill; the same search there goes on.
        logs: where Ray Tune writes, begun anew each time.
        progress: told the trials done.
        found: shown what `measure` returned in all trials so far, when there are more.

    Returns:
        What `measure` returned, one dict a trial; no names of trials, which are random.

    Raises:
        TrainingError: when a trial failed for good.
    """
    from ray import tune

    from raydistill.distributed.suggest import count_of

    # A search tries the same settings whatever ends first, so one that was killed is begun anew: what was measured of a
    # setting is there. Ray's own memory of it is several files, which a kill leaves in parts or at odds.
    (logs / NAME).delete()
    logs.make()
    _keep_secrets_out()
    total = count_of(space)
    with board(progress, found) as news:
        trials = {"measure": measure, "arguments": arguments, "shared": shared, "news": news, "total": total}
        trials |= {"goals": tuple(space.goals), "kept": work / MEASURED}
        trainable = tune.with_resources(tune.with_parameters(_trial, **trials), claimed(space))
        results = _new_search(trainable, space, logs).fit()
    if results.errors:
        raise TrainingError(f"{len(results.errors)} trials failed, the first: {root_cause(results.errors[0])}")
    measured = [result.metrics["measured"] for result in results]
    if found:
        # A worker that was stopped right after its last report may not have told.
        found(measured)
    return measured


def claimed(space: Search) -> Any:
    """Translate what a trial claims into what Ray Tune reserves for it."""
    from ray import tune

    if not space.label_selector:
        return {"cpu": CPUS_PER_TRIAL}
    return tune.PlacementGroupFactory([{"CPU": CPUS_PER_TRIAL}], bundle_label_selector=[dict(space.label_selector)])


def _keep_secrets_out() -> None:
    """Keep Ray Tune from handing the driver's keys to trials: Ray logs the environments that it makes for workers.

    Trials have their node's own, as all workers have.
    """
    from ray.tune.execution import class_cache

    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(KEYS)


def _new_search(trainable: Any, space: Search, logs: Store) -> Any:
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback

    from raydistill.distributed.pacing import Paced
    from raydistill.distributed.suggest import domains, suggester

    by_rule = space.algorithm == "grid" or not space.bounds
    return tune.Tuner(
        trainable,
        param_space=domains(space),
        tune_config=tune.TuneConfig(
            num_samples=1 if by_rule else space.num_trials,
            search_alg=None if by_rule else Paced(suggester(space)),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=logs.path,
            storage_filesystem=logs.filesystem,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[JsonLoggerCallback()],
            verbose=0,
        ),
    )


def _trial(
    config: dict[str, float],
    *,
    measure: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    shared: Any,
    news: Any,
    total: int,
    goals: tuple[str, ...],
    kept: Store,
) -> None:
    import ray
    from ray import tune

    from raydistill.distributed.gauges import show_trial

    setting = json.dumps(config, sort_keys=True, default=float)
    file = f"{hashlib.sha256(setting.encode()).hexdigest()[:16]}.json"
    if not kept.exists(file):
        kept.write_bytes(file, json.dumps(measure(config, shared, **arguments), default=float).encode())
    measured = kept.read_json(file)
    constraints = measured.pop("constraints")
    show_trial(tune.get_context().get_trial_name(), measured)
    told = {goal: measured[goal] for goal in goals} | {"constraints": constraints}
    tune.report(told | {"measured": measured})
    news.tell.remote(measured)
    ray.get(news.add.remote(total, "trials"))  # before the driver looks a last time
