"""What is tried next. It follows from whole batches of results, so a search tries the same whatever ends first."""

import warnings
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import optuna
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from raydistill.distributed.pacing import InBatches
from raydistill.distributed.tune import Bounds, Search

CONSTRAINTS = "constraints/"
"""How the names of bounds begin in what Ray Tune tells a searcher, which is flat."""

TPE_STARTUP = 10
"""Trials at random before TPE learns, at most; Optuna's own number."""


def domains(space: Search) -> dict[str, Any]:
    """Return what Ray Tune is given of each setting's range: points of a grid, or where to draw from."""
    if space.algorithm != "grid":
        return {name: _domain(bounds) for name, bounds in space.bounds.items()}
    ranges = {name: bounds for name, bounds in space.bounds.items() if isinstance(bounds, Bounds)}
    left = space.num_trials / prod(len(listed) for listed in space.bounds.values() if not isinstance(listed, Bounds))
    each = max(1, int(left ** (1 / max(1, len(ranges))) + 1e-9))
    return {
        name: tune.grid_search(points(values, each) if isinstance(values, Bounds) else list(values))
        for name, values in space.bounds.items()
    }


def count_of(space: Search) -> int:
    """Return the number of trials: with a grid no more than asked for, without anything to search one."""
    if space.algorithm == "grid":
        return prod(len(listed["grid_search"]) for listed in domains(space).values())
    return space.num_trials if space.bounds else 1


def points(bounds: Bounds, count: int) -> list[float]:
    """Return so many values of a range, evenly spread, ends included; of whole numbers each only once."""
    spread = np.geomspace if bounds.is_log else np.linspace
    values = spread(bounds.low, bounds.high, count) if count > 1 else spread(bounds.low, bounds.high, 3)[1:2]
    return sorted({round(v) for v in values.tolist()}) if bounds.is_whole else values.tolist()


def suggester(space: Search) -> InBatches:
    """Return Optuna's sampler of a search, told in batches.

    Source: TPE, Bergstra et al. 2011 (NeurIPS), with constraints as in Watanabe and Hutter 2023 (c-TPE); NSGA-II, Deb
    et al. 2002.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed, size = space.seed % 2**32, space.num_trials if space.algorithm == "random" else space.batch
    samplers = {
        # The first batch is drawn at random; in the others a setting that is under way counts as a bad one, so that
        # those of a batch aren't all the same.
        "tpe": lambda: optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=min(TPE_STARTUP, size), constant_liar=True
        ),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(
            seed=seed, population_size=max(2, space.batch), **_changes(space.bounds)
        ),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    names, modes = list(space.goals), list(space.goals.values())
    goals = (names, modes) if len(names) > 1 else (names[0], modes[0])
    return InBatches(Bounded(metric=goals[0], mode=goals[1], sampler=samplers[space.algorithm]()), size)


def _changes(bounds: Mapping[str, Bounds | Sequence[Any]]) -> dict[str, Any]:
    """Return how NSGA-II changes what it inherits, where that is a single setting.

    Optuna draws one of all settings anew at random: of a single one nothing would be inherited, and nothing learned. So
    a number is changed a little, by the polynomial mutation of Deb et al. 2002, and a listed value every other time.
    """
    if len(bounds) != 1:
        return {}
    if not isinstance(next(iter(bounds.values())), Bounds):
        return {"mutation_prob": 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return {"mutation": optuna.samplers.nsgaii.PolynomialMutation()}


class Bounded(OptunaSearch):  # type: ignore[misc]
    """Ray's search with Optuna, told of the constraints that a result reports."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Keep how far a setting broke its bounds, then tell what it reached."""
        for name, excess in (result or {}).items():
            if name.startswith(CONSTRAINTS):
                self._ot_trials[trial_id].set_constraint(name, float(excess))
        super().on_trial_complete(trial_id, result=result, error=error)


def _domain(bounds: Bounds | Sequence[Any]) -> Any:
    if not isinstance(bounds, Bounds):
        return tune.choice(list(bounds))
    if bounds.is_whole:
        low, high = round(bounds.low), round(bounds.high) + 1
        return tune.lograndint(low, high) if bounds.is_log else tune.randint(low, high)
    return (tune.loguniform if bounds.is_log else tune.uniform)(bounds.low, bounds.high)
