"""The engine alone, one worker in this process: what it says of a step, whatever DeepSpeed was told."""

from pathlib import Path

import pytest
import torch

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.distributed.engine import Engine
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.settings import settings
from raydistill.distributed.stream import Parts
from raydistill.distributed.train import form_group_of_one
from tests.distributed.jobs import options
from tests.distributed.toys import Curve

HALF_GRADIENTS = {"data_types": {"grad_accum_dtype": "bf16"}}
CASES = {
    "ZeRO-0": {"zero_stage": 0},
    "ZeRO-1": {"zero_stage": 1},
    "ZeRO-2": {"zero_stage": 2},
    "ZeRO-3": {"zero_stage": 3},
    **{f"bf16 ZeRO-{stage}": {"zero_stage": stage, "precision": "bf16"} for stage in range(4)},
    "bf16 ZeRO-1, gradients in bf16": {"zero_stage": 1, "precision": "bf16", "override": HALF_GRADIENTS},
}


@pytest.fixture(scope="module", autouse=True)
def alone():
    prepare_libraries()
    form_group_of_one()


def start(case, checkpoint=None):
    config = DeepSpeedConfig(**CASES[case], gradient_clipping=1e-3, gradient_accumulation_steps=2)
    return Engine(Curve().build(), options(), config, Parts(12, 1, 2), 0.9, checkpoint)


def step(engine, number):
    curve = Curve()
    return engine.learn(curve.loss(engine.wrapped, number, slice(first, first + 6), {}) for first in (0, 6))


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_norm_is_that_before_clipping(case):
    model = Curve().build()
    Curve().loss(model, 0, slice(0, 12), {}).backward()
    expected = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    engine = start(case)
    step(engine, 0)
    assert engine.gradient_norm() == pytest.approx(float(expected), rel=0.02 if "bf16" in case else 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_is_taken_up_to_the_bit(case, tmp_path):
    engine = start(case)
    for number in range(2):
        step(engine, number)
    engine.save(tmp_path, {})
    again = start(case, Path(tmp_path))
    for number in range(2, 4):
        assert step(engine, number) == step(again, number)
    for name, value in engine.trained().items():
        torch.testing.assert_close(again.trained()[name], value, rtol=0, atol=0)


def test_micro_batches_in_half_precision_are_added_up_in_float32():
    def told(accumulation, **more):
        return settings(DeepSpeedConfig(precision="bf16", **more), Parts(8, 1, accumulation), 10).get("data_types")

    assert told(4) == {"grad_accum_dtype": "fp32"}
    assert told(1) is None
    assert told(4, zero_stage=0) is None
    assert told(4, override=HALF_GRADIENTS) == HALF_GRADIENTS["data_types"]


def zero(parts, elements=10, **config):
    return settings(DeepSpeedConfig(**config), parts, elements)["zero_optimization"]


def test_a_worker_alone_does_not_copy_its_gradients_together():
    assert not zero(Parts(4, 1, 1))["contiguous_gradients"]
    assert zero(Parts(4, 2, 1))["contiguous_gradients"]
    assert zero(Parts(4, 1, 1), override={"zero_optimization": {"contiguous_gradients": True}})["contiguous_gradients"]


def test_a_worker_alone_has_no_gradients_to_cut():
    assert zero(Parts(4, 1, 1), zero_stage=2)["stage"] == 1
    assert zero(Parts(4, 2, 1), zero_stage=2)["stage"] == 2
    assert zero(Parts(4, 1, 1), zero_stage=2, offload_optimizer=True)["stage"] == 2
    assert zero(Parts(4, 1, 1), zero_stage=3)["stage"] == 3


def test_no_more_is_set_aside_for_gradients_than_there_are():
    assert zero(Parts(4, 2, 1), elements=10)["reduce_bucket_size"] == 10
    assert zero(Parts(4, 2, 1), elements=10**9)["reduce_bucket_size"] == 500_000_000
