"""What a search costs and how near it comes to the best setting there is.

    python benchmarks/tune.py [RUN]

RUN is a finished run; without one a cohort of phantoms whose teacher knows its patients is run first
(benchmarks/selftest.yaml). Its samples are matched already, so every setting of the filter can be measured: a fine grid
of both error rates tells the best feasible setting, the truth that searches are held against. Prints how far the best
setting found by TPE, by chance and by a grid lies from it after 16, 32 and 64 trials, over ten seeds; then trials a
minute through Ray Tune on one and on two CPUs, beside classifiers trained one after another. Markdown, and as the last
line one JSON object.
"""

import json
import os
import subprocess
import sys
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from raydistill.core.config import ClusterConfig, SearchSpace
from raydistill.core.progress import silent
from raydistill.core.scratch import temporary_folder
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.distributed.session import prepare_libraries, session
from raydistill.distributed.tune import Bounds, Search, search
from raydistill.folder import opened
from raydistill.stages.classifier import train_classifier
from raydistill.stages.rungs import ALONE
from raydistill.stages.trial import Evidence, TuneNodeConfig, evaluate_setting, read_evidence, searched

ROOT = Path(__file__).resolve().parent.parent
BUDGETS, SEEDS, FINE, BATCH = (16, 32, 64), 10, 24, 8
WIDE = SearchSpace(target_fpir=(0.005, 0.5), near_copy_fpir=(0.005, 0.5))
"""From hardly any filter to none that leaves anything: the best lies inside."""


def main() -> None:
    """Measure and print."""
    prepare_libraries()
    with temporary_folder() as folder:
        run = sys.argv[1] if len(sys.argv) > 1 else made(folder)
        evidence, config = read(run)
    tried = Tried(evidence, config)
    quality = distances(tried)
    speed = pace(evidence, config)
    print(json.dumps({"distance": quality, **speed}))


def made(folder: str) -> str:
    """Run the cohort of phantoms up to the search."""
    run = str(Path(folder, "run"))
    line = [sys.executable, "jobs/distill.py", "--config", "benchmarks/selftest.yaml", "--run-dir", run]
    subprocess.run(line, cwd=ROOT, check=False)
    return run


def read(run: str) -> tuple[Evidence, TuneNodeConfig]:
    """Return what the run's search read, and its settings over a wide space."""
    runner = opened(run)
    runner.plan()
    stage = next(stage for stage in runner.stages if stage.node == "tune")
    assert isinstance(stage.config, TuneNodeConfig)
    tune = stage.config.tune.model_copy(update={"space": WIDE})
    return read_evidence(runner.context(stage), tune), stage.config.model_copy(update={"tune": tune})


class Tried:
    """Settings measured once each."""

    def __init__(self, evidence: Evidence, config: TuneNodeConfig) -> None:
        self.config, self.measure = config, cache(lambda a, b: _measured(a, b, evidence, config))

    def __call__(self, setting: dict[str, float]) -> dict[str, Any]:
        """Return what a setting comes to."""
        return dict(self.measure(setting["target_fpir"], setting["near_copy_fpir"]))


def _measured(target_fpir: float, near_copy_fpir: float, evidence: Evidence, config: TuneNodeConfig) -> dict[str, Any]:
    return evaluate_setting({"target_fpir": target_fpir, "near_copy_fpir": near_copy_fpir}, evidence, config)


def best(trials: list[dict[str, Any]]) -> float:
    """Return the objective of the best feasible trial; -inf where there is none."""
    return max((trial["objective"] for trial in trials if trial["feasible"]), default=float("-inf"))


def distances(tried: Tried) -> dict[str, dict[int, float]]:
    """Print how far each way of searching stays from the best of a fine grid; return the medians."""
    axes = [np.geomspace(*ends, FINE) for ends in (WIDE.target_fpir, WIDE.near_copy_fpir)]
    grid = [tried({"target_fpir": float(a), "near_copy_fpir": float(b)}) for a in axes[0] for b in axes[1]]
    feasible = [one["objective"] for one in grid if one["feasible"]]
    print(f"{len(grid)} settings, {len(feasible)} feasible: objective {min(feasible):.4f} to {max(feasible):.4f}\n")
    ways = ("tpe", "random", "grid")
    medians: dict[str, dict[int, float]] = {way: {} for way in ways}
    print("| trials | " + " | ".join(ways) + " |\n|---|" + "---|" * len(ways))
    for budget in BUDGETS:
        cells = []
        for way in ways:
            # A grid has no seed.
            gaps = [
                max(feasible) - best(run_of(way, budget, seed, tried)) for seed in range(1 if way == "grid" else SEEDS)
            ]
            medians[way][budget] = round(float(np.median(gaps)), 4)
            cells.append(f"{np.median(gaps):.4f} ({min(gaps):.4f} to {max(gaps):.4f})")
        print(f"| {budget} | {' | '.join(cells)} |")
    return medians


def run_of(way: str, budget: int, seed: int, tried: Tried) -> list[dict[str, Any]]:
    """Search as the product does, its trials in this process."""
    from raydistill.distributed.suggest import domains, points, suggester

    space = Search(searched(WIDE), {"objective": "max"}, budget, BATCH, derive_seed(seed, "search"), way)
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


def pace(evidence: Evidence, config: TuneNodeConfig) -> dict[str, float]:
    """Print trials a minute through Ray Tune, beside classifiers trained one after another."""
    taught, seconds = evidence.has_labels, {}
    clock = time.monotonic()
    for seed in range(3):
        train_classifier(evidence.images[taught], evidence.labels[taught], config.network_steps, seed, ALONE)
    seconds["network"] = (time.monotonic() - clock) / 3
    for cpus in (1, 2):
        with session(ClusterConfig(num_cpus=cpus)), temporary_folder() as folder:
            space = Search(searched(WIDE), {"objective": "max"}, 64, BATCH, 0)
            clock = time.monotonic()
            search(evaluate_setting, {"config": config}, evidence, space, Store.open(folder), silent)
            seconds[f"search on {cpus}"] = time.monotonic() - clock
    ratio = {cpus: seconds[f"search on {cpus}"] / (64 * seconds["network"]) for cpus in (1, 2)}
    print("\n| | trials a minute | of the time of 64 classifiers, one after another |\n|---|---|---|")
    for cpus in (1, 2):
        name, rate = f"64 trials on {cpus} CPU{'s' * (cpus > 1)}", 60 * 64 / seconds[f"search on {cpus}"]
        print(f"| {name} | {rate:.0f} | {ratio[cpus]:.1%} |")
    return {"share_on_1": round(ratio[1], 4), "share_on_2": round(ratio[2], 4)}


if __name__ == "__main__":
    main()
