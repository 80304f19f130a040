"""Searches with Ray Tune and Optuna: trials share read-only data, and an interrupted search keeps its trials."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raydistill.core.errors import TrainingError
from raydistill.core.progress import Progress
from raydistill.core.store import Store
from raydistill.distributed.session import board, root_cause

NAME = "search"
CPUS_PER_TRIAL = 1.0
PICKLE_END = b"."
"""The last byte of a whole pickle; Ray doesn't write the file in one step."""


@dataclass(frozen=True)
class Search:
    """What is searched and how long.

    Args:
        bounds: range of each setting, searched log-uniformly.
        num_trials: settings tried.
        max_concurrent: trials at a time.
        seed: of the sampler.
    """

    bounds: dict[str, tuple[float, float]]
    num_trials: int
    max_concurrent: int
    seed: int


def search(
    measure: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    shared: Any,
    space: Search,
    work: Store,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Maximise `objective` over a space.

    Args:
        measure: importable; `measure(setting, shared, **arguments)` returns a dict with `objective`.
        arguments: small keyword arguments.
        shared: read-only data, put into the object store once.
        space: what to search.
        work: where trials are kept; a search found there goes on.
        progress: told the trials done.

    Returns:
        What `measure` returned, one dict a trial; no names of trials, which are random.

    Raises:
        TrainingError: when a trial failed for good.
    """
    import ray
    from ray import tune

    work.make()
    found = work / NAME
    with board(progress) as news:
        trials = {"measure": measure, "arguments": arguments, "shared": shared, "news": news, "total": space.num_trials}
        trainable = tune.with_resources(tune.with_parameters(_trial, **trials), {"cpu": CPUS_PER_TRIAL})
        if _can_go_on(found):
            ray.get([news.add.remote(space.num_trials, "trials") for _ in range(_finished(found))])
            tuner = tune.Tuner.restore(
                found.path, trainable, storage_filesystem=work.filesystem, resume_unfinished=True, restart_errored=True
            )
        else:
            tuner = _new_search(trainable, space, work)
        results = tuner.fit()
    if results.errors:
        raise TrainingError(f"{len(results.errors)} trials failed, the first: {root_cause(results.errors[0])}")
    return [result.metrics["measured"] for result in results]


def _new_search(trainable: Any, space: Search, work: Store) -> Any:
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from raydistill.distributed.suggest import InBatches

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searcher = OptunaSearch(sampler=optuna.samplers.TPESampler(seed=space.seed % 2**32))
    return tune.Tuner(
        trainable,
        param_space={name: tune.loguniform(low, high) for name, (low, high) in space.bounds.items()},
        tune_config=tune.TuneConfig(
            metric="objective",
            mode="max",
            num_samples=space.num_trials,
            search_alg=InBatches(searcher, space.max_concurrent),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=work.path,
            storage_filesystem=work.filesystem,
            failure_config=tune.FailureConfig(max_failures=2),
            verbose=0,
        ),
    )


def _can_go_on(found: Store) -> bool:
    """Whether a search left enough to restore; a kill while it was being set up or written leaves less."""
    names = found.files()
    has_state = any(name.startswith("experiment_state") for name in names)
    if has_state and "tuner.pkl" in names and found.read_bytes("tuner.pkl").endswith(PICKLE_END):
        return True
    found.delete()
    return False


def _finished(found: Store) -> int:
    """How many trials have reported; each writes one line of results."""
    return sum(name.endswith("/result.json") and bool(found.read_bytes(name)) for name in found.files())


def _trial(
    config: dict[str, float],
    *,
    measure: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    shared: Any,
    news: Any,
    total: int,
) -> None:
    from ray import tune

    measured = measure(config, shared, **arguments)
    tune.report({"objective": measured["objective"], "measured": measured})
    news.add.remote(total, "trials")
