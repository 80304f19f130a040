"""Operations of re-identification networks, counted without their weights."""

import pytest

from raydistill.core.section import Compute
from raydistill.core.training import BackboneConfig, OptimizerConfig, ReidConfig
from raydistill.reid.cost import rows_per_step, training_hours, training_tflop

SHORT = OptimizerConfig(steps=10, batch_size=16, lr=1e-3)
OWN = ReidConfig(backbone=BackboneConfig(width=8), optimizer=SHORT)


def test_operations_grow_with_steps_width_and_rehearsal():
    longer = OWN.model_copy(update={"optimizer": SHORT.model_copy(update={"steps": 20})})
    assert training_tflop(longer, 32) == pytest.approx(2 * training_tflop(OWN, 32))
    wider = OWN.model_copy(update={"backbone": BackboneConfig(width=16)})
    assert training_tflop(wider, 32) > 2 * training_tflop(OWN, 32)
    packaged = ReidConfig(optimizer=SHORT)
    assert (rows_per_step(OWN), rows_per_step(packaged)) == (16, 24)


@pytest.mark.parametrize("kind", ["resnet", "regnet", "convnext", "vit"])
def test_every_backbone_is_counted_and_timed_on_a_cpu(kind):
    config = ReidConfig(backbone=BackboneConfig(kind=kind), optimizer=SHORT)
    assert training_tflop(config, 64) > 0
    hours, basis = training_hours(config, 64)
    assert hours > 0
    assert "timed" in basis


def test_a_gpu_waits_for_a_small_networks_operators_on_every_worker():
    def hours(**changes):
        gpus = Compute(**{"num_workers": 1, "num_gpus": 1, "accelerator_type": "H100"} | changes)
        return training_hours(OWN.model_copy(update={"compute": gpus}), 32)

    alone, basis = hours()
    assert 0 < alone < 0.1
    assert "assumed: " in basis
    # Hours are all workers' together: two that each do half of a batch aren't faster.
    assert hours(num_workers=2)[0] == pytest.approx(2 * alone)
    assert hours(accelerator_type=None) == (None, "no time: which GPU? compute.accelerator_type or --gpu names it")
