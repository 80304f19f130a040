"""The training loop on a GPU, at each precision, against a plain loop in float32 on the CPU."""

from functools import partial

import numpy as np
import pytest

from raydistill.core.store import Store
from raydistill.diffusion import components
from raydistill.diffusion.preview import Grid
from raydistill.distributed.job import Preview
from raydistill.distributed.train import train
from tests.distributed.denoising import BATCH, SMALL, objective
from tests.distributed.jobs import curve_job, losses, options, plain, weights

pytestmark = [pytest.mark.gpu, pytest.mark.ray, pytest.mark.timeout(900)]

TOLERANCES = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}
"""Relative, of every loss and averaged weight; a GPU multiplies float32 in another order."""

CASES = [(0, "fp32"), (1, "fp32"), (0, "bf16"), (2, "bf16"), (3, "bf16"), (1, "fp16"), (3, "fp16")]

MODELS = {
    "fp32": {"zero_stage": 1},
    "fp16": {"zero_stage": 1, "precision": "fp16"},
    "bf16, accumulated": {"zero_stage": 2, "precision": "bf16", "gradient_accumulation_steps": 2},
    "bf16, offloaded": {"zero_stage": 2, "precision": "bf16", "offload_optimizer": True},
    "bf16, cut and checkpointed": {"zero_stage": 3, "precision": "bf16", "gradient_checkpointing": True},
}


@pytest.mark.parametrize(("zero_stage", "precision"), CASES)
def test_a_gpu_learns_what_the_cpu_learns(gpu, tmp_path, zero_stage, precision):
    history = train(curve_job(tmp_path, gpus=1, zero_stage=zero_stage, precision=precision), max_failures=0)
    expected, tolerance = plain(), TOLERANCES[precision]
    np.testing.assert_allclose(losses(history), expected[0], rtol=tolerance)
    got = weights(tmp_path)
    for name, value in expected[1].items():
        np.testing.assert_allclose(got[name], value, rtol=tolerance, atol=tolerance / 10, err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_a_diffusion_model_learns_and_is_drawn_on_a_gpu(gpu, tmp_path, name):
    initial, how = tmp_path / "initial", options(batch=BATCH, steps=8, lr=1e-3)
    components.build_tiny(SMALL, resolution=32, seed=1, folder=initial)
    make = partial(objective, initial, SMALL, **MODELS[name])
    seen = {"logs": Store.open(str(tmp_path)) / "logs", "preview": Preview(Grid(["chest x-ray"], "cuda"), every=4)}
    history = train(curve_job(tmp_path, make=make, optimizer=how, gpus=1, more=seen, **MODELS[name]), max_failures=0)
    tolerance = TOLERANCES[name.split(",")[0]]
    np.testing.assert_allclose(losses(history), plain(objective(initial), how)[0], rtol=tolerance)
    assert (tmp_path / "logs/previews/step-000004.png").exists()
