"""What sampling and training will cost, said before they start."""

import pytest

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.section import Compute
from raydistill.core.training import DiffusionConfig, LoraConfig
from raydistill.data import operations
from raydistill.data.operations import OPERATOR_S, PEAK_TFLOPS, UTILISATION
from raydistill.diffusion import cost
from raydistill.diffusion.cost import Pace, forward_passes, sampling, training

MODEL = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32)
CPU, H100 = Pace(Compute(), "fp32", 64), Compute(num_workers=4, num_gpus=1, accelerator_type="H100")


def test_operations_grow_with_images_passes_and_resolution():
    one = sampling(MODEL, 100, 1000, 32, CPU).tflop
    assert sampling(MODEL, 200, 2000, 32, CPU).tflop == pytest.approx(2 * one)
    assert one < sampling(MODEL, 100, 2000, 32, CPU).tflop < 2 * one
    assert sampling(MODEL, 100, 1000, 64, CPU).tflop > 3 * one


def test_a_row_of_training_takes_three_forward_passes():
    a_pass = (sampling(MODEL, 0, 1000, 32, CPU)).tflop / 1000
    assert training(MODEL, 500, 32, CPU).tflop == pytest.approx(500 * 3 * a_pass)
    kept = MODEL.model_copy(update={"deepspeed": DeepSpeedConfig(gradient_checkpointing=True)})
    frozen = DiffusionConfig(pretrained="x", lora=LoraConfig(), train_text_encoder=False)
    assert [forward_passes(model) for model in (MODEL, kept, frozen)] == [3, 4, 2]


def test_three_is_what_torch_counts_forward_and_backward():
    import torch
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    unet = cost._descriptions(MODEL, 32)[0]
    forward = training(MODEL, 1, 32, CPU).tflop / 3
    with FlopCounterMode(display=False) as counter:
        model = UNet2DConditionModel.from_config(unet)
        model(*(torch.zeros(*shape) for shape in cost._shapes(unet, 1))).sample.sum().backward()
    # What is read, words and latents, has no gradient: in a small model that shows.
    assert 2.6 * forward < counter.get_total_flops() / 1e12 <= 3 * forward


def test_a_gpu_that_has_enough_to_do_is_reckoned_with_by_its_peak(monkeypatch):
    monkeypatch.setattr(operations, "OPERATOR_S", 0.0)
    found = sampling(MODEL, 10**6, 4 * 10**7, 32, Pace(H100, "bf16", 64))
    hours, basis = found.hours()
    assert hours == pytest.approx(found.tflop / (PEAK_TFLOPS["H100"] * UTILISATION) / 3600)
    assert "H100 assumed at 30 % of its peak" in basis
    assert sampling(MODEL, 10**6, 4 * 10**7, 32, Pace(H100, "fp32", 64)).hours()[0] == pytest.approx(2 * hours)


def test_a_gpu_that_has_little_to_do_waits_for_operators():
    few, many = (sampling(MODEL, 10**6, 4 * 10**7, 32, Pace(H100, "bf16", rows)) for rows in (8, 64))
    hours, basis = few.hours()
    assert hours == pytest.approx(8 * many.hours()[0])
    assert hours == pytest.approx(4 * 10**7 / 8 * cost._operators(few.unet) * OPERATOR_S / 3600)
    assert "assumed: " in basis
    learned = [training(MODEL, 10**6, 32, Pace(H100, "fp32", rows)).hours()[0] for rows in (4, 8)]
    assert learned[0] == pytest.approx(2 * learned[1])


def test_operators_are_what_a_device_is_asked_for():
    from torch import nn

    def two():
        return nn.Sequential(nn.Linear(4, 4), nn.Flatten(), nn.ReLU())

    # A view asks for nothing; the size doesn't matter, and weights are made before anything is counted.
    assert [operations.operators(two, [(rows, 4)]) for rows in (1, 100)] == [2, 2]


def test_what_is_not_known_is_not_said():
    hours, why = sampling(MODEL, 10, 400, 32, Pace(Compute(num_gpus=1), "fp32", 64)).hours()
    assert hours is None
    assert "accelerator_type" in why


def test_a_cpu_is_timed_where_that_takes_a_moment(monkeypatch):
    hours, basis = sampling(MODEL, 10, 400, 32, CPU).hours()
    assert hours > 0
    assert "timed on one thread here" in basis
    monkeypatch.setattr(operations, "MOST_TIMED", 1)
    cost._seconds_per_pass.cache_clear()
    assert sampling(MODEL, 10, 400, 32, CPU).hours()[0] is None
    cost._seconds_per_pass.cache_clear()


def test_a_pretrained_model_is_counted_by_its_own_description(tiny):
    own = DiffusionConfig(pretrained=str(tiny))
    assert sampling(own, 10, 400, 32, CPU).tflop > 2 * sampling(own, 10, 400, 16, CPU).tflop > 0
