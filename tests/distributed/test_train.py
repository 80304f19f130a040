"""The one training loop on real Ray Train and DeepSpeed."""

from functools import partial

import numpy as np
import pytest

from raydistill.core.config import ClusterConfig, Compute, DeepSpeedConfig, OptimizerConfig
from raydistill.core.errors import ConfigError, TrainingError
from raydistill.core.progress import silent
from raydistill.core.store import Store
from raydistill.distributed.train import TrainJob, train
from tests.distributed.toys import Line

pytestmark = pytest.mark.ray


def job(folder, workers=1, zero=1, make=Line, steps=30, **more):
    store = Store.open(str(folder))
    return TrainJob(
        make_objective=make,
        optimizer=OptimizerConfig(steps=steps, batch_size=8, lr=0.1, warmup_steps=1, checkpoint_every=10),
        deepspeed=DeepSpeedConfig(zero_stage=zero),
        compute=Compute(num_workers=workers),
        ema_decay=more.get("ema_decay"),
        out=store / "out",
        weights="model",
        work=store / "work",
    )


def result(folder):
    return [float(number) for number in (folder / "out/model/line.txt").read_text().split()]


def test_a_killed_worker_resumes_to_the_same_weights_as_an_unbroken_run(local_ray, tmp_path):
    whole = train(job(tmp_path / "whole"), ClusterConfig(), silent)
    make = partial(Line, die_at=25, scar=str(tmp_path / "scar"))
    broken = train(job(tmp_path / "broken", make=make), ClusterConfig(), silent)
    assert (tmp_path / "scar").exists()
    assert np.array(broken["loss"]) == pytest.approx(np.array(whole["loss"]), abs=1e-6)
    assert result(tmp_path / "broken") == pytest.approx(result(tmp_path / "whole"), abs=1e-6)
    assert whole["loss"][-1][1] < whole["loss"][0][1]


def test_two_workers_follow_one(local_ray, tmp_path):
    train(job(tmp_path / "one", ema_decay=0.9), ClusterConfig(), silent)
    train(job(tmp_path / "two", workers=2, ema_decay=0.9), ClusterConfig(), silent)
    assert result(tmp_path / "two") == pytest.approx(result(tmp_path / "one"), abs=1e-5)


def test_a_loss_that_is_not_finite_stops_with_a_reason(local_ray, tmp_path):
    make = partial(Line, nan_at=3)
    with pytest.raises(TrainingError, match="loss was nan at step 3"):
        train(job(tmp_path, make=make), ClusterConfig(max_failures=0), silent)


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size 8 isn.t divisible by compute\.num_workers 3"):
        train(job(tmp_path, workers=3), ClusterConfig(), silent)
