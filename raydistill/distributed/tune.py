"""Searches with Ray Tune and Optuna: trials share read-only data, and an interrupted search keeps its trials."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raydistill.core.errors import TrainingError
from raydistill.core.progress import Progress
from raydistill.core.store import Store
from raydistill.distributed.session import board

NAME = "search"
CPUS_PER_TRIAL = 1.0


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
        What `measure` returned, one dict a trial, with `trial_id`.

    Raises:
        TrainingError: when a trial failed for good.
    """
    from optuna.samplers import TPESampler
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    work.make()
    trainable = tune.with_resources(
        tune.with_parameters(_trial, measure=measure, arguments=arguments, shared=shared), {"cpu": CPUS_PER_TRIAL}
    )
    with board(progress) as news:
        where = f"{work.path}/{NAME}"
        if _can_go_on(work / NAME):
            tuner = tune.Tuner.restore(
                where, trainable, storage_filesystem=work.filesystem, resume_unfinished=True, restart_errored=True
            )
        else:
            tuner = tune.Tuner(
                trainable,
                param_space={name: tune.loguniform(low, high) for name, (low, high) in space.bounds.items()},
                tune_config=tune.TuneConfig(
                    metric="objective",
                    mode="max",
                    num_samples=space.num_trials,
                    max_concurrent_trials=space.max_concurrent,
                    search_alg=OptunaSearch(sampler=TPESampler(seed=space.seed % 2**32)),
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name=NAME,
                    storage_path=work.path,
                    storage_filesystem=work.filesystem,
                    failure_config=tune.FailureConfig(max_failures=2),
                    callbacks=[_counter(space.num_trials, news)],
                    verbose=0,
                ),
            )
        results = tuner.fit()
    if results.errors:
        raise TrainingError(f"{len(results.errors)} trials failed, the first: {results.errors[0]}")
    return [{**result.metrics["measured"], "trial_id": result.metrics["trial_id"]} for result in results]


def _can_go_on(found: Store) -> bool:
    """Whether a search left enough to restore; a kill while it was being set up leaves less, and no trial."""
    names = found.files()
    if any(name.startswith("experiment_state") for name in names) and "tuner.pkl" in names:
        return len(found.read_bytes("tuner.pkl")) > 0
    found.delete()
    return False


def _trial(
    config: dict[str, float], *, measure: Callable[..., dict[str, Any]], arguments: dict[str, Any], shared: Any
) -> None:
    from ray import tune

    measured = measure(config, shared, **arguments)
    tune.report({"objective": measured["objective"], "measured": measured})


def _counter(total: int, news: Any) -> Any:
    from ray import tune

    class Counter(tune.Callback):
        """Counts finished trials on the driver."""

        done = 0

        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            self.done += 1
            news.post.remote(self.done, total, "trials")

    return Counter()
