"""The loop's numbers against a plain PyTorch loop: ZeRO 0 to 3, one worker and two, with and without accumulation."""

import numpy as np
import pytest
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer

from raydistill.distributed.worker import learn
from tests.distributed.jobs import curve_job, losses, options, plain, weights

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

TOLERANCE = 2e-5
"""Relative, of every loss and every averaged weight in float32: only the order of sums differs."""

CASES = [{"zero_stage": stage, "gradient_accumulation_steps": micros} for stage in (0, 1, 2, 3) for micros in (1, 2)]
CASES.append({"zero_stage": 2, "micro_batch_size": 5})


def several(config):
    for job in config["jobs"]:
        learn(job, None)


def run_all(jobs, workers, folder):
    """Run trainings one after the other in one group of workers: starting a group takes longer than they do."""
    TorchTrainer(
        several,
        train_loop_config={"jobs": jobs},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray_train.ScalingConfig(num_workers=workers),
        run_config=ray_train.RunConfig(storage_path=str(folder)),
    ).fit()


def name_of(case):
    return "-".join(f"{key}={value}" for key, value in case.items())


@pytest.fixture(scope="module")
def reference():
    return plain()


@pytest.fixture(scope="module", params=[1, 2])
def trained(request, local_ray, tmp_path_factory):
    folder = tmp_path_factory.mktemp("numerics")
    how = {"workers": request.param, "optimizer": options(checkpoint_every=1000)}
    jobs = {name_of(case): curve_job(folder / name_of(case), **how, **case) for case in CASES}
    run_all(list(jobs.values()), request.param, folder / "ray")
    return folder, jobs


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_loss_curve_is_that_of_plain_pytorch(trained, reference, case):
    _, jobs = trained
    history = jobs[name_of(case)].out.read_json("history.json")
    np.testing.assert_allclose(losses(history), reference[0], rtol=TOLERANCE)
    assert reference[0][-10:].mean() < 0.7 * reference[0][:10].mean()


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_exported_average_is_that_of_plain_pytorch(trained, reference, case):
    folder, _ = trained
    got = weights(folder / name_of(case))
    assert got.keys() == reference[1].keys()
    for name, value in reference[1].items():
        np.testing.assert_allclose(got[name], value, rtol=TOLERANCE, atol=1e-6, err_msg=name)
