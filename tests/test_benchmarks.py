"""What the benchmarks count with: formulas, storages, turns, and sizes that they say are Stable Diffusion's."""

import asyncio
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import space
import train_gpu
import train_memory
import tune
from train_models import Sizes
from train_turns import Turns
from unplanted import TREATMENTS

from raydistill.core.config import Config
from raydistill.core.store import Store
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.train import form_group_of_one
from raydistill.folder import opened
from raydistill.pipeline import wire
from tests.stages.test_search_alone import run
from tests.stages.test_short_student import matched
from tests.stages.test_trial import MANY, evidence

__all__ = ["run"]


def test_the_papers_example():
    """Rajbhandari et al., figure 1: 7.5 billion parameters on 64 workers: 120, 31.4, 16.6 and 1.9 GB."""
    cases = ("ZeRO-1, bf16", "ZeRO-2, bf16", "ZeRO-3, bf16")
    gigabytes = [7.5 * train_memory.formula(case, 64) for case in cases]
    assert gigabytes == pytest.approx([31.4, 16.6, 1.9], abs=0.05)
    assert 7.5 * train_memory.formula(train_memory.DDP, 64) == 120


def test_a_shared_storage_is_counted_once_and_whole():
    whole = torch.zeros(10)
    held = {"parameters": [whole[:4]], "masters": [whole[4:]], "optimizer": [torch.zeros(3, dtype=torch.bfloat16)]}
    counts = train_memory._counted(held, size=2)
    assert counts == {"parameters": 20, "gradients": 0, "masters": 0, "optimizer": 3, "average": 0}


def test_loops_take_turns():
    async def loop(turns, name, log):
        for block in range(3):
            await turns.pass_on(name, (float(block), 0.0) if block else None)
            log.append((name, block))
            await asyncio.sleep(0)
        await turns.pass_on(name, (3.0, 0.0))

    async def both():
        turns, log = Turns(["a", "b"], blocks=3), []
        await asyncio.wait_for(asyncio.gather(loop(turns, "b", log), loop(turns, "a", log)), timeout=10)
        return log, await turns.taken()

    log, taken = asyncio.run(both())
    assert log == [(name, block) for block in range(3) for name in "ab"]
    assert [seconds for seconds, _ in taken["a"]] == [1, 2, 3]


@pytest.mark.parametrize("kind", ["bare loop", "raydistill"])
def test_the_gpu_benchmark_runs_on_anything(kind):
    prepare_libraries()
    form_group_of_one()
    assert train_gpu.images_per_s(Sizes(8), side=64, rows=1, kind=kind, device="cpu", steps=1) > 0


def test_sizes_are_those_of_stable_diffusion():
    with torch.device("meta"):
        parts = [Sizes(1).unet(), Sizes(1).vae(), Sizes(1).text_encoder()]
    counts = [sum(parameter.numel() for parameter in part.parameters()) / 1e6 for part in parts]
    assert counts == pytest.approx([859.5, 83.7, 123.1], abs=0.05)


@pytest.mark.parametrize("name", [name for name in TREATMENTS if name != "as it is"])
def test_what_nobody_plants_is_another_picture_of_the_same_size(name):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 16, 16), np.uint8)
    made = TREATMENTS[name](images.copy(), rng)
    assert (made.shape, made.dtype) == (images.shape, np.uint8)
    assert all(not np.array_equal(before, after) for before, after in zip(images, made, strict=True))


@pytest.mark.ray
def test_the_search_benchmark_runs_on_a_run_that_is_there(local_ray, run, tmp_path, monkeypatch, capsys):
    small = {"BUDGETS": (4, 8), "SEEDS": 2, "FINE": 3, "BATCH": 4, "TRAININGS": 1, "TRIALS": 4, "CPUS": (2,)}
    for name, value in small.items():
        monkeypatch.setattr(tune, name, value)
    monkeypatch.setattr(tune, "session", lambda cluster: nullcontext())
    context, config = tune.read(opened(run[0].uri))
    found = tune.figures(replace(context, work=Store.open(str(tmp_path / "work"))), config)
    ways = {f"distance_from_optimum_{way}_{budget}" for way in ("tpe", "random", "grid") for budget in (4, 8)}
    assert found.keys() == ways | {"distance_from_optimum_64", "trial_cost_vs_cnn_training_2_cpus"}
    assert all(found[way] >= 0 for way in ways)
    assert found["trial_cost_vs_cnn_training_2_cpus"] > 0
    said = capsys.readouterr().out
    assert said.startswith("9 settings, ")
    assert "| 4 trials on 2 CPUs | " in said


def test_a_second_setting_is_judged_by_patients_that_didn_t_choose_it(capsys):
    """Ten samples teach the wrong way round, and resemble somebody more than the others do."""
    scores = np.where(np.arange(MANY) < 10, 0.6, 0.1)
    own = replace(evidence(), matches=matched(MANY, "m", scores))
    own = replace(own, labels=np.where(scores[:, None] > 0.5, 1 - own.test_labels, own.test_labels))
    config = next(stage for stage in wire(Config()) if stage.node == "tune").config
    config = config.model_copy(update={"tune": config.tune.model_copy(update={"space": space.OPEN})})
    halves = space.splits(own.test_patients)
    assert halves.shape == (2, space.SPLITS, MANY)
    assert (halves.sum(axis=0) == 1).all()
    assert (halves.sum(axis=2) == MANY / 2).all()
    found = space.figures(own, config)
    assert list(found) == ["FPIR", "FPIR and balance", "FPIR and quota", "all three"]
    assert found["FPIR"]["more"] == 0.0
    # Who may set more finds what fits one half better, or as well.
    assert found["all three"]["chosen_by"] >= max(found[name]["chosen_by"] for name in list(found)[:3])
    assert all(one["other"] > 0.7 for one in found.values())
    assert capsys.readouterr().out.count("\n") == 6
