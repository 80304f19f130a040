"""A stream of rows through Ray Data and Ray Train: the right rows for every worker, from any step on."""

from functools import partial

import numpy as np
import pytest
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.store import Store
from raydistill.core.training import GuardConfig
from raydistill.distributed.job import Guard
from raydistill.distributed.split import NAME, Split, placeholder, received
from raydistill.distributed.stream import Parts, Stream
from raydistill.distributed.train import train, train_here
from tests.distributed.jobs import curve_job, losses, options, plain, weights
from tests.distributed.toys import Rows, read_rows

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 150


def stream(batch_size=9):
    return Stream(tuple((str(name), 10) for name in range(7)), read_rows, batch_size, seed=3, window_rows=600)


def receive(config):
    """Note which rows arrive at which step."""
    context = ray_train.get_context()
    rank = context.get_world_rank()
    parts = Parts(9, context.get_world_size(), config["micros"])
    rows = received(config["first"], rank, parts, config["work"])
    seen = [[list(map(int, next(rows)["i"])) for _ in parts.of(rank)] for _ in range(config["first"], STEPS)]
    config["work"].write_json(f"seen-{rank}.json", seen)


@pytest.mark.parametrize(("workers", "micros", "first"), [(2, 1, 0), (1, 2, 33)])
def test_each_worker_gets_its_parts_of_the_order(local_ray, tmp_path, workers, micros, first):
    work = Store.open(str(tmp_path))
    TorchTrainer(
        receive,
        train_loop_config={"work": work, "micros": micros, "first": first},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray_train.ScalingConfig(num_workers=workers),
        run_config=ray_train.RunConfig(storage_path=str(tmp_path / "ray")),
        datasets={NAME: placeholder},
        dataset_config=Split(
            stream(), STEPS, partial(DeepSpeedConfig(gradient_accumulation_steps=micros).micros, 9), work
        ),
    ).fit()
    order, parts = stream().rows(0, STEPS * 9)["i"], Parts(9, workers, micros)
    for rank in range(workers):
        expected = [
            [list(map(int, order[step * 9 + part.start : step * 9 + part.stop])) for part in parts.of(rank)]
            for step in range(first, STEPS)
        ]
        assert work.read_json(f"seen-{rank}.json") == expected


class FromMemory(Rows):
    """The rows of the stream, read without it."""

    def loss(self, model, step, part, rows):
        return super().loss(model, step, part, stream(12).rows(step * 12 + part.start, step * 12 + part.stop))


def guard_rows(gap):
    """Train rows, and others whose target is off, so that their loss is larger."""
    x = np.random.default_rng(0).normal(size=(6, 3))
    return {"train": {"x": 0.1 * x}, "calibration": {"x": gap * x}}


def test_a_streamed_training_is_the_one_in_memory_and_goes_on_in_the_middle(local_ray, tmp_path):
    expected, averaged = plain(FromMemory(), options(steps=60))
    dying = partial(Rows, die_at=45, scar=str(tmp_path / "scar"), pause=0.05)
    job = curve_job(
        tmp_path, workers=2, make=dying, optimizer=options(steps=60), zero_stage=2, more={"stream": stream(12)}
    )
    history = train(job, max_failures=1)
    assert (tmp_path / "scar").exists()
    np.testing.assert_allclose(losses(history), expected, rtol=2e-5)
    for name, value in weights(tmp_path).items():
        np.testing.assert_allclose(value, averaged[name], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("micros", [1, 2])
def test_a_streamed_training_in_this_process_is_the_one_in_memory(tmp_path, micros):
    how = options(steps=60)
    expected, averaged = plain(FromMemory(), how)
    more = {"stream": stream(12)}
    job = curve_job(tmp_path, make=Rows, optimizer=how, gradient_accumulation_steps=micros, more=more)
    np.testing.assert_allclose(losses(train_here(job)), expected, rtol=2e-5)
    for name, value in weights(tmp_path).items():
        np.testing.assert_allclose(value, averaged[name], rtol=2e-5, atol=1e-6)


def test_a_gap_that_stays_ends_the_training_with_its_weights(local_ray, tmp_path):
    guard = Guard(partial(guard_rows, 3.0), GuardConfig(every=10, draws=2, max_gap=0.5, patience=2))
    more = {"stream": stream(12), "guard": guard, "logs": Store.open(str(tmp_path / "logs"))}
    job = curve_job(tmp_path, workers=2, make=Rows, optimizer=options(steps=60), more=more)
    history = train(job, max_failures=0)
    assert history["stopped"].startswith("step 20: images of others have a loss")
    assert [step for step, *_ in history["gap"]] == [10, 20]
    assert history["loss"][-1][0] == 20
    assert weights(tmp_path)
    assert list((tmp_path / "logs").glob("events.*"))
