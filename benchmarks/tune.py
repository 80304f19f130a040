"""What a search costs and how near it comes to the best setting there is.

    python benchmarks/tune.py [RUN]

RUN is a run that has got as far as the search; without one a cohort of phantoms whose teacher knows its patients is run
so far (benchmarks/tune.yaml). Its samples are matched already, so every setting of the filter can be measured. A fine
grid of both error rates is, and the bound on the risk is put where the best of all breaks it. The best of those that
keep it, of the grid and of all that any search found, is what each search is held against. Prints how far the best
setting found by TPE, by chance and by a grid lies from it after 16, 32 and 64 trials, over ten seeds; a grid of two
settings has 16, 25 and 64 points. Then what a search takes on one and on two CPUs, from reading samples and making
their features to the last of 64 trials, beside classifiers trained one after another as the search's candidates are.
SIZE=full: a finer grid, thirty seeds. Markdown, and as the last line one JSON object.
"""

import json
import os
import sys
import time
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from raydistill.core.config import ClusterConfig
from raydistill.core.loading import load_config
from raydistill.core.progress import silent
from raydistill.core.scratch import temporary_folder
from raydistill.core.searching import SearchSpace
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.session import session
from raydistill.distributed.tune import Bounds, Search, search
from raydistill.folder import new_runner, opened
from raydistill.runner import Runner
from raydistill.stages.base import Context, Stage
from raydistill.stages.classifier import train_classifier
from raydistill.stages.evidence import read_evidence, with_pictures
from raydistill.stages.space import in_reach, searched
from raydistill.stages.trial import Evidence, TuneNodeConfig, evaluate_setting

CONFIG = Path(__file__).with_name("tune.yaml")
FULL = os.environ.get("SIZE") == "full"
BUDGETS, SEEDS, FINE, BATCH, TRAININGS = (16, 32, 64), 30 if FULL else 10, 32 if FULL else 16, 8, 3
TRIALS, CPUS = 64, (1, 2)
WIDE = SearchSpace(target_fpir=(0.005, 0.6), near_copy_fpir=(0.005, 0.6))
"""From hardly any filter to one that hardly leaves anything: the best lies inside."""


def main() -> None:
    """Measure and print."""
    prepare_libraries()
    with temporary_folder() as folder:
        context, config = read(opened(sys.argv[1]) if len(sys.argv) > 1 else made(folder))
        print(json.dumps(figures(replace(context, work=Store.open(folder) / "work"), config)))


def figures(context: Context, config: TuneNodeConfig) -> dict[str, float]:
    """Print what is measured and return it by name.

    Args:
        context: from which the search reads.
        config: of the search.
    """
    with session(ClusterConfig(num_cpus=2)):
        evidence = with_pictures(read_evidence(context, config), context, config)
    quality = distances(evidence, config)
    cost = pace(evidence, context, config)
    found = {f"trial_cost_vs_cnn_training{f'_{cpus}_cpus' * (cpus > 1)}": share for cpus, share in cost.items()}
    found |= {f"distance_from_optimum_{way}_{n}": gap for way, gaps in quality.items() for n, gap in gaps.items()}
    found["distance_from_optimum_64"] = quality["tpe"][max(BUDGETS)]
    return found


def made(folder: str, *overrides: str) -> Runner:
    """Run all of the cohort of phantoms that the search reads."""
    config = load_config(CONFIG, list(overrides))
    runner: Runner = new_runner(config, str(Path(folder, "run")))
    runner.open()
    with session(config.cluster):
        for stage in tune_of(runner).sources():
            runner.execute(stage)
            print(stage.node, "is done", file=sys.stderr)
    return runner


def tune_of(runner: Runner) -> Stage:
    """Return the search."""
    return next(stage for stage in runner.stages if stage.node == "tune")


def read(runner: Runner) -> tuple[Context, TuneNodeConfig]:
    """Return what the search of a run runs with, and its settings over a wide space."""
    runner.plan()
    stage = tune_of(runner)
    assert isinstance(stage.config, TuneNodeConfig)
    tune = stage.config.tune.model_copy(update={"space": WIDE})
    return runner.context(stage), stage.config.model_copy(update={"tune": tune})


class Tried:
    """Settings measured once each, under a bound."""

    def __init__(self, evidence: Evidence, config: TuneNodeConfig) -> None:
        self.space, self.bound = in_reach(WIDE, evidence.supported_fpir), 1.0
        self.measure = cache(lambda a, b: _measured(a, b, evidence, config))

    def __call__(self, setting: dict[str, float]) -> dict[str, Any]:
        """Return what a setting comes to."""
        found = dict(self.measure(setting["target_fpir"], setting["near_copy_fpir"]))
        broken = {"risk": found["risk_high"] - self.bound, "kept_share": found["constraints"]["kept_share"]}
        return found | {"constraints": broken, "feasible": max(broken.values()) <= 0}


def _measured(target_fpir: float, near_copy_fpir: float, evidence: Evidence, config: TuneNodeConfig) -> dict[str, Any]:
    return evaluate_setting({"target_fpir": target_fpir, "near_copy_fpir": near_copy_fpir}, evidence, config)


def distances(evidence: Evidence, config: TuneNodeConfig) -> dict[str, dict[int, float]]:
    """Print how far each way of searching stays from the best of a fine grid; return the medians."""
    tried = Tried(evidence, config)
    axes = [np.geomspace(*ends, FINE).tolist() for ends in (tried.space.target_fpir, tried.space.near_copy_fpir)]
    points = [{"target_fpir": a, "near_copy_fpir": b} for a, b in product(*axes)]
    tried.bound = _binding([tried(point) for point in points])
    grid = [tried(point) for point in points]
    reached = [one["objective"] for one in grid if one["feasible"]]
    worst, free = min(reached), max(one["objective"] for one in grid)
    print(f"{len(grid)} settings, {len(reached)} with an upper risk of {tried.bound:.3f} or less: their AUROC is")
    print(f"{worst:.4f} to {max(reached):.4f}, without the bound {free:.4f} at best.")
    ways = ("tpe", "random", "grid")
    # A grid has no seed. Where nothing feasible was found, the worst that is feasible could have been taken.
    found = {
        (way, budget): [
            max((one["objective"] for one in run_of(way, budget, seed, tried) if one["feasible"]), default=worst)
            for seed in range(1 if way == "grid" else SEEDS)
        ]
        for way, budget in product(ways, BUDGETS)
    }
    best = max(max(reached), *(value for values in found.values() for value in values))
    print(f"Distance from {best:.4f}, the best that is known to keep it:\n")
    medians: dict[str, dict[int, float]] = {way: {} for way in ways}
    print("| trials | " + " | ".join(ways) + " |\n|---|" + "---|" * len(ways))
    for budget in BUDGETS:
        cells = []
        for way in ways:
            gaps = [best - value for value in found[way, budget]]
            medians[way][budget] = round(float(np.median(gaps)), 4)
            cells.append(f"{np.median(gaps):.4f} ({min(gaps):.4f} to {max(gaps):.4f})")
        print(f"| {budget} | {' | '.join(cells)} |", flush=True)
    return medians


def _binding(grid: list[dict[str, Any]]) -> float:
    """Return the largest bound on the risk that the best of all breaks, or where a tenth keeps it."""
    risks = np.array([one["risk_high"] for one in grid])
    best = max(grid, key=lambda one: float(one["objective"]))
    below = risks[risks < best["risk_high"]]
    return float(below.max() if len(below) >= len(grid) / 10 else np.quantile(risks, 0.1))


def run_of(way: str, budget: int, seed: int, tried: Tried) -> list[dict[str, Any]]:
    """Search as the product does, its trials in this process."""
    from raydistill.distributed.suggest import domains, points, suggester

    space = Search(searched(tried.space), {"objective": "max"}, budget, BATCH, derive_seed(seed, "search"), way)
    if way == "grid":
        each = int(budget**0.5 + 1e-9)
        axes = {name: points(bounds, each) for name, bounds in space.bounds.items() if isinstance(bounds, Bounds)}
        return [tried(dict(zip(axes, values, strict=True))) for values in product(*axes.values())]
    searcher, found = suggester(space), []
    searcher.set_search_properties(None, None, domains(space))
    for first in range(0, budget, BATCH):
        names = [f"trial-{first + number}" for number in range(BATCH)]
        settings = {name: searcher.suggest(name) for name in names}
        for name, setting in settings.items():
            measured = tried(setting)
            constraints = {f"constraints/{bound}": excess for bound, excess in measured["constraints"].items()}
            searcher.on_trial_complete(name, {"objective": measured["objective"], **constraints})
            found.append(measured)
    return found


def pace(evidence: Evidence, context: Context, config: TuneNodeConfig) -> dict[int, float]:
    """Print what a search takes, beside classifiers trained one after another; return the shares of their time.

    Args:
        evidence: with the pictures that classifiers learn from.
        context: from which the search reads.
        config: of the search.
    """
    taught, shares = evidence.has_labels, {}
    clock = time.monotonic()
    for seed in range(TRAININGS):
        train_classifier(evidence.images[taught], evidence.labels[taught], config.network_steps, seed, config.compute)
    network = (time.monotonic() - clock) / TRAININGS
    of = f"of the time of {TRIALS} classifiers of {config.network_steps} steps, one after another"
    print(f"\n| | features, s | trials a minute | both, {of} |\n|---|---|---|---|")
    space = Search(searched(WIDE), {"objective": "max"}, TRIALS, BATCH, 0)
    for cpus in CPUS:
        with session(ClusterConfig(num_cpus=cpus)), temporary_folder() as folder:
            work, clock = Store.open(folder), time.monotonic()
            shared = read_evidence(replace(context, work=work), config)
            features = time.monotonic() - clock
            search(evaluate_setting, {"config": config}, shared, space, work, work, silent)
            seconds = time.monotonic() - clock
        shares[cpus] = round(seconds / (TRIALS * network), 4)
        name = f"{TRIALS} trials on {cpus} CPU{'s' * (cpus > 1)}"
        rate = 60 * TRIALS / (seconds - features)
        print(f"| {name} | {features:.1f} | {rate:.0f} | {shares[cpus]:.1%} |", flush=True)
    return shares


if __name__ == "__main__":
    main()
