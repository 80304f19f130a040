"""Is it worth searching more than one setting of the filter? Decision 33's question, asked of a run.

    python benchmarks/space.py [RUN]

RUN is a run that has got as far as the search; without one the cohort of phantoms of benchmarks/tune.py is run so far.
Every combination of four FPIRs of the identity threshold, five degrees of balance and four quotas is measured by the
linear probe. The best of those that each search could set is chosen by one half of the calibration patients and
measured on the other, in 60 splits. Prints, as Markdown, the mean AUROC it was chosen by, that of the other half, how
much more that is than of the FPIR alone (with the standard deviation from split to split, which share patients), and
the share of samples that is kept; the last line is a JSON object. Risk isn't looked at: a bound only takes settings
away.
"""

import json
import os
import sys
from dataclasses import replace
from itertools import product
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray
from tune import made, tune_of

from raydistill.core.config import ClusterConfig
from raydistill.core.scratch import temporary_folder
from raydistill.core.searching import SearchSpace
from raydistill.core.seeds import generator
from raydistill.core.store import Store
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.session import session
from raydistill.folder import opened
from raydistill.metrics.utility import mean_area, supported
from raydistill.runner import Runner
from raydistill.stages.evidence import read_evidence
from raydistill.stages.space import in_reach
from raydistill.stages.trial import Evidence, TuneNodeConfig, kept_by, policy_for, probed

BALANCES, QUOTAS, SPLITS = (0.0, 0.25, 0.5, 0.75, 1.0), (None, 16, 8, 4), 60
OPEN = SearchSpace(balance=(0.0, 1.0), patient_quota=(4, 16))
Setting = tuple[float, float, int | None]


def main() -> None:
    """Measure and print."""
    prepare_libraries()
    with temporary_folder() as folder:
        runner = opened(sys.argv[1]) if len(sys.argv) > 1 else made(folder)
        with session(ClusterConfig(num_cpus=2)):
            evidence, config = read(runner, Store.open(folder) / "work")
        print(json.dumps(figures(evidence, config)))


def read(runner: Runner, work: Store) -> tuple[Evidence, TuneNodeConfig]:
    """Return what the search of a run reads, all samples counted, and its settings over an open space."""
    runner.plan()
    stage = tune_of(runner)
    assert isinstance(stage.config, TuneNodeConfig)
    config = stage.config.model_copy(update={"tune": stage.config.tune.model_copy(update={"space": OPEN})})
    return read_evidence(replace(runner.context(stage), work=work), config), config


def figures(evidence: Evidence, config: TuneNodeConfig) -> dict[str, dict[str, float]]:
    """Print the table, and return it by what is searched."""
    reach = in_reach(OPEN, evidence.supported_fpir).target_fpir
    settings = list(product(np.geomspace(*reach, 4).tolist(), BALANCES, QUOTAS))
    known = supported(evidence.test_labels.astype(bool), evidence.test_patients)
    if not known.any():
        sys.exit("nothing can be tested: no finding that enough calibration patients have, and haven't")
    halves = splits(evidence.test_patients)
    kept, areas = [], []
    for setting in settings:
        keep = kept_by(policy_for(_whole(setting), evidence, config), evidence, config)
        kept.append(float(keep.mean()))
        areas.append(_areas(evidence, keep, known, halves))
    of = {
        "FPIR": [balance == 0 and quota is None for _, balance, quota in settings],
        "FPIR and balance": [quota is None for _, _, quota in settings],
        "FPIR and quota": [balance == 0 for _, balance, _ in settings],
        "all three": [True] * len(settings),
    }
    return _table({name: np.flatnonzero(inside) for name, inside in of.items()}, np.stack(areas), np.array(kept))


def splits(patients: NDArray[Any]) -> NDArray[np.float64]:
    """Return weights of images, (2, SPLITS, M): of one half of the patients, drawn anew each time, and of the other."""
    people, codes = np.unique(patients, return_inverse=True)
    orders = [generator(0, "half", split).permutation(len(people)) for split in range(SPLITS)]
    first = (np.stack(orders) < len(people) // 2)[:, codes]
    return np.stack([first, ~first]).astype(float)


def _whole(setting: Setting) -> dict[str, Any]:
    fpir, balance, quota = setting
    return {"target_fpir": fpir, "near_copy_fpir": OPEN.near_copy_fpir[0], "balance": balance, "patient_quota": quota}


def _areas(
    evidence: Evidence, keep: NDArray[np.bool_], known: NDArray[np.bool_], halves: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the macro AUROC (2, SPLITS) on each half of a probe that learned from what is kept, 0 without any."""
    if not (keep & evidence.has_labels).any():
        return np.zeros(halves.shape[:2])
    area = mean_area(evidence.test_labels[:, known].astype(bool), probed(evidence, keep)[:, known])
    return np.stack([area(half) for half in halves])


def _table(
    spaces: dict[str, NDArray[np.int64]], areas: NDArray[np.float64], kept: NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """Choose in each space, and print."""
    found: dict[str, dict[str, float]] = {}
    print("| searched | AUROC it was chosen by | of the other half | more than the FPIR's | share kept |")
    print("|---|---|---|---|---|")
    alone: NDArray[np.float64] | None = None
    for name, inside in spaces.items():
        best, each = inside[areas[inside, 0].argmax(axis=0)], np.arange(areas.shape[2])
        by, other = areas[best, 0, each], areas[best, 1, each]
        alone = other if alone is None else alone
        more, error = float((other - alone).mean()), float((other - alone).std())
        found[name] = {"chosen_by": float(by.mean()), "other": float(other.mean()), "more": more, "sd": error}
        found[name]["kept"] = float(kept[best].mean())
        cells = f"{by.mean():.3f} | {other.mean():.3f} | {more:.3f} (sd {error:.3f}) | {kept[best].mean():.2f}"
        print(f"| {name} | {cells} |", flush=True)
    return {name: {key: round(value, 4) for key, value in one.items()} for name, one in found.items()}


if __name__ == "__main__":
    main()
