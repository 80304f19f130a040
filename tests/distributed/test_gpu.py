"""The training loop on a GPU, at each precision, against a plain loop in float32 on the CPU."""

import numpy as np
import pytest

from raydistill.distributed.train import train
from tests.distributed.jobs import curve_job, losses, plain, weights

pytestmark = [pytest.mark.gpu, pytest.mark.ray, pytest.mark.timeout(900)]

TOLERANCES = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}
"""Relative, of every loss and averaged weight; a GPU multiplies float32 in another order."""

CASES = [(0, "fp32"), (1, "fp32"), (0, "bf16"), (2, "bf16"), (3, "bf16"), (1, "fp16"), (3, "fp16")]


@pytest.mark.parametrize(("zero_stage", "precision"), CASES)
def test_a_gpu_learns_what_the_cpu_learns(gpu, tmp_path, zero_stage, precision):
    history = train(curve_job(tmp_path, gpus=1, zero_stage=zero_stage, precision=precision), max_failures=0)
    expected, tolerance = plain(), TOLERANCES[precision]
    np.testing.assert_allclose(losses(history), expected[0], rtol=tolerance)
    got = weights(tmp_path)
    for name, value in expected[1].items():
        np.testing.assert_allclose(got[name], value, rtol=tolerance, atol=tolerance / 10, err_msg=name)
