"""What sampling will cost, said before it starts."""

import pytest

from raydistill.core.generation import SampleConfig
from raydistill.core.section import Compute
from raydistill.core.training import DiffusionConfig
from raydistill.diffusion import cost
from raydistill.diffusion.cost import PEAK_TFLOPS, UTILISATION, estimate

MODEL = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32)
H100 = Compute(num_workers=4, num_gpus=1, accelerator_type="H100", price_per_hour=3.0)


def test_operations_grow_with_images_steps_and_guidance():
    one = estimate(MODEL, SampleConfig(num_inference_steps=10, guidance_scale=1.0), 100, 32)
    more = estimate(MODEL, SampleConfig(num_inference_steps=10, guidance_scale=2.0), 200, 32)
    assert (one.passes, more.passes) == (10, 20)
    twice = estimate(MODEL, SampleConfig(num_inference_steps=20, guidance_scale=1.0), 200, 32)
    assert more.tflop == pytest.approx(twice.tflop)
    assert more.tflop > 2 * one.tflop
    assert estimate(MODEL, SampleConfig(), 100, 64).tflop > 3 * estimate(MODEL, SampleConfig(), 100, 32).tflop


def test_a_gpu_is_reckoned_with_by_its_peak_and_price():
    config = SampleConfig(precision="bf16", compute=H100)
    found = estimate(MODEL, config, 10**6, 32)
    assert found.hours == pytest.approx(found.tflop / (PEAK_TFLOPS["H100"] * UTILISATION) / 3600)
    single = estimate(MODEL, SampleConfig(compute=H100), 10**6, 32)
    assert single.hours == pytest.approx(2 * found.hours)
    said = found.said(4, H100.price_per_hour)
    assert "1,000,000 images x 40 UNet passes" in said
    assert "on 4 workers" in said
    assert f"{3 * found.hours:.2f} at 3 a worker and hour" in said


def test_what_is_not_known_is_not_said():
    found = estimate(MODEL, SampleConfig(compute=Compute(num_gpus=1)), 10, 32)
    assert found.hours is None
    assert "accelerator_type" in found.said(1, 3.0)


def test_a_cpu_is_timed_where_that_takes_a_moment(monkeypatch):
    found = estimate(MODEL, SampleConfig(), 10, 32)
    assert found.hours > 0
    assert "timed" in found.said(1, None)
    monkeypatch.setattr(cost, "MEASURED_FLOPS", 1)
    assert estimate(MODEL, SampleConfig(), 10, 32).hours is None


def test_a_pretrained_model_is_counted_by_its_own_description(tiny):
    config = SampleConfig()
    own = estimate(DiffusionConfig(pretrained=str(tiny)), config, 10, 16)
    assert own.tflop > 0
    assert estimate(DiffusionConfig(pretrained=str(tiny)), config, 10, 32).tflop > 2 * own.tflop


@pytest.mark.parametrize(
    ("seconds", "said"), [(3, "3 s"), (119, "119 s"), (600, "10.0 min"), (9000, "2.5 h"), (10**6, "11.6 days")]
)
def test_durations_are_said_in_a_fitting_unit(seconds, said):
    assert cost._duration(seconds) == said
