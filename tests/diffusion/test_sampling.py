import shutil
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from raydistill.core.generation import Solver
from raydistill.diffusion import denoiser
from raydistill.diffusion.batches import Failure
from raydistill.diffusion.components import decode_latents, encode_images, tokenize
from raydistill.diffusion.sampling import Sampler, Way

SEEDS = [2**62 + 5, 1, 2, 3, 4, 5, 6, 7]
WAY = Way(guidance_scale=2.0, num_inference_steps=4, batch_size=4)
PLAIN = replace(WAY, guidance_scale=1.0)


@pytest.fixture(scope="module")
def sampler(tiny):
    return Sampler(tiny)


@pytest.fixture(scope="module")
def samples(sampler, prompts):
    return sampler.generate(prompts, SEEDS, WAY)


def test_samples_are_grey_images_of_the_models_size(samples):
    assert samples.shape == (8, 16, 16)
    assert samples.dtype == np.uint8
    assert len(np.unique(samples.reshape(8, -1), axis=0)) == 8


def test_a_padded_tail_changes_nothing(sampler, prompts, samples):
    np.testing.assert_array_equal(sampler.generate(prompts[:6], SEEDS[:6], WAY), samples[:6])


def test_the_company_and_the_place_in_a_batch_change_nothing(sampler, prompts, samples):
    order = np.array([5, 0, 7, 2, 1, 6, 4, 3])
    shuffled = sampler.generate([prompts[i] for i in order], [SEEDS[i] for i in order], WAY)
    np.testing.assert_array_equal(shuffled, samples[order])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_another_batch_size_changes_a_grey_level_at_most(tiny, prompts, precision):
    sampler = Sampler(tiny, precision=precision)
    samples = sampler.generate(prompts, SEEDS, WAY)
    for size in (1, 3, 8):
        other = sampler.generate(prompts, SEEDS, replace(WAY, batch_size=size))
        assert np.abs(other.astype(int) - samples).max() <= 1


def test_the_global_stream_of_randomness_is_not_used(sampler, prompts, samples):
    torch.manual_seed(123)
    np.testing.assert_array_equal(sampler.generate(prompts, SEEDS, WAY), samples)


def test_guidance_of_one_is_no_guidance(sampler, prompts):
    plain = sampler.generate(prompts, SEEDS, PLAIN)
    nearly = sampler.generate(prompts, SEEDS, replace(WAY, guidance_scale=1.0 + 1e-6))
    assert np.abs(plain.astype(int) - nearly).max() <= 1


def test_little_noise_returns_what_the_autoencoder_makes_of_the_image(sampler, images, prompts):
    options = {"num_inference_steps": 50, "batch_size": 4}
    little = sampler.noise_and_denoise(images, prompts, SEEDS, strength=0.02, **options)
    much = sampler.noise_and_denoise(images, prompts, SEEDS, strength=0.9, **options)
    vae = sampler.parts.vae
    through = decode_latents(vae, torch.from_numpy(encode_images(vae, images))).astype(int)
    assert little.shape == images.shape
    assert np.abs(little - through).mean() < 8
    assert np.abs(much - through).mean() > 20


def test_returning_from_pure_noise_is_sampling(sampler, images, prompts):
    sampled = sampler.generate(prompts, SEEDS, PLAIN)
    returned = sampler.noise_and_denoise(images, prompts, SEEDS, strength=1.0, num_inference_steps=4, batch_size=4)
    assert np.abs(sampled.astype(int) - returned).mean() < 2


def test_denoising_losses_compare_images_under_the_same_noise(sampler, images, prompts):
    options = {"fractions": (0.1, 0.5), "seeds": (0, 1), "batch_size": 4}
    losses = sampler.denoising_losses(images, prompts, **options)
    assert losses.shape == (8, 2)
    assert losses.dtype == np.float64
    assert (losses > 0).all()
    np.testing.assert_allclose(sampler.denoising_losses(images[:3], prompts[:3], **options), losses[:3], rtol=1e-6)
    twice = sampler.denoising_losses(images[[0, 0]], [prompts[0]] * 2, **options)
    np.testing.assert_allclose(twice[0], twice[1], rtol=1e-6)
    single = [sampler.denoising_losses(images, prompts, **(options | {"seeds": (seed,)})) for seed in (0, 1)]
    np.testing.assert_allclose(np.mean(single, axis=0), losses, rtol=1e-6)


def test_an_untrained_velocity_model_errs_as_theory_says(sampler, images, prompts, monkeypatch):
    class Zero:
        def __init__(self, sample):
            self.sample = torch.zeros_like(sample)

    monkeypatch.setattr(sampler.parts.unet, "forward", lambda noisy, timesteps, words: Zero(noisy))
    losses = sampler.denoising_losses(images, prompts, fractions=(0.99,), seeds=range(20), batch_size=8)
    # Predicting v = 0 means the noise sqrt(1 - a) x, and near the end of the schedule x is the noise.
    assert losses.mean() < 0.05


def test_all_solvers_approach_the_same_images(sampler, prompts):
    made = {
        name: sampler.generate(prompts, SEEDS, replace(WAY, num_inference_steps=200, solver=name)).astype(int)
        for name in get_args(Solver)
    }
    for name, images in made.items():
        assert np.abs(images - made["dpmsolver++"]).mean() < 2, name
    few = sampler.generate(prompts, SEEDS, replace(WAY, num_inference_steps=2)).astype(int)
    assert np.abs(few - made["dpmsolver++"]).mean() > 2


@pytest.mark.parametrize("solver", get_args(Solver))
def test_no_solver_carries_anything_from_one_batch_to_the_next(sampler, prompts, solver):
    way = replace(WAY, solver=solver)
    whole = sampler.generate(prompts, SEEDS, way)
    np.testing.assert_array_equal(sampler.generate(prompts[4:], SEEDS[4:], way), whole[4:])


def test_half_precision_changes_little_and_draws_the_same_noise(tiny, sampler, prompts, samples):
    half = Sampler(tiny, precision="bf16")
    assert {p.dtype for p in half.parts.unet.parameters()} == {torch.bfloat16}
    assert torch.equal(half.noise(SEEDS), sampler.noise(SEEDS))
    made = half.generate(prompts, SEEDS, WAY)
    assert np.abs(made.astype(int) - samples).mean() < 6
    np.testing.assert_array_equal(half.generate(prompts[:6], SEEDS[:6], WAY), made[:6])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
def test_a_compiled_network_changes_a_grey_level_at_most(tiny, prompts, samples):
    compiled = Sampler(tiny, compiled=True).generate(prompts, SEEDS, WAY)
    assert np.abs(compiled.astype(int) - samples).max() <= 1


def test_a_distinct_prompt_is_embedded_once(tiny, prompts, samples, monkeypatch):
    sampler, seen = Sampler(tiny), []
    monkeypatch.setattr(denoiser, "tokenize", lambda tokenizer, texts: seen.extend(texts) or tokenize(tokenizer, texts))
    np.testing.assert_array_equal(sampler.generate(prompts, SEEDS, WAY), samples)
    np.testing.assert_array_equal(sampler.generate(prompts, SEEDS, WAY), samples)
    # Batches of one shape are filled up with the empty prompt.
    assert {prompt: seen.count(prompt) for prompt in set(prompts)} == dict.fromkeys(prompts, 1)
    monkeypatch.setattr(denoiser, "REMEMBERED", 2)
    sampler.embed(prompts)
    assert len(sampler.embedded) == 2


class Poisoned(Sampler):
    """Can't make the rows of some prompts: the whole batch fails with them, every time or once."""

    def poison(self, bad, times=10**9, error=RuntimeError):
        self.bad, self.times, self.error = bad, times, error
        return self

    def embed(self, prompts):
        if set(prompts) & self.bad and self.times:
            self.times -= 1
            raise self.error("out of memory\nwhile allocating")
        return super().embed(prompts)


def test_a_row_that_cannot_be_made_costs_no_other(tiny, prompts, samples):
    texts = [*prompts[:2], "poison", *prompts[3:]]
    made = Poisoned(tiny).poison({"poison"}).finished(list, texts, SEEDS, WAY)
    assert made[2] == Failure("RuntimeError: out of memory")
    for row in (0, 1, 3, 4, 5, 6, 7):
        np.testing.assert_array_equal(made[row], samples[row])


def test_a_batch_that_fails_once_is_tried_again(tiny, prompts, samples):
    made = Poisoned(tiny).poison({prompts[0]}, times=1).finished(list, prompts, SEEDS, WAY)
    np.testing.assert_array_equal(np.stack(made), samples)


def test_what_is_no_rows_fault_is_raised(tiny):
    with pytest.raises(RuntimeError, match="out of memory"):
        Poisoned(tiny).poison({"poison"}).finished(list, ["poison"] * 6, SEEDS[:6], WAY)
    with pytest.raises(TypeError):
        Poisoned(tiny).poison({"poison"}, error=TypeError).finished(list, ["poison"], SEEDS[:1], WAY)


def test_where_rows_can_be_made_no_more_it_is_no_rows_fault(tiny, prompts):
    class Broken(Sampler):
        batches = 0

        def _denoise(self, *arguments):
            self.batches += 1
            if self.batches > 1:
                raise RuntimeError("CUDA error")
            return super()._denoise(*arguments)

    with pytest.raises(RuntimeError, match="CUDA error"):
        Broken(tiny).finished(list, prompts, SEEDS, WAY)


def test_a_model_that_only_gives_nan_is_no_rows_fault(tiny, prompts):
    sampler = Sampler(tiny)
    sampler.noise = lambda seeds: torch.full((len(seeds), *sampler.latent_shape), torch.nan)
    with pytest.raises(FloatingPointError, match="every image ends in latents that aren't finite"):
        sampler.finished(list, prompts, SEEDS, WAY)
    assert sampler.finished(list, prompts[:1], SEEDS[:1], WAY) == [Failure("latents that aren't finite numbers")]
    with pytest.raises(FloatingPointError, match="can't be planted"):
        sampler.noise_and_denoise(
            np.zeros((1, 16, 16), np.uint8), prompts[:1], SEEDS[:1], strength=0.5, num_inference_steps=2, batch_size=1
        )


def test_a_failure_of_what_finishes_an_image_is_a_rows_too(sampler, prompts, samples):
    def finish(images):
        if any(np.array_equal(image, samples[5]) for image in images):
            raise ValueError("can't be written")
        return list(images)

    made = sampler.finished(finish, prompts, SEEDS, WAY)
    assert [isinstance(row, Failure) for row in made] == [number == 5 for number in range(8)]


def test_latents_that_are_not_numbers_are_said_so(tiny, prompts, samples):
    sampler = Sampler(tiny)
    noise = sampler.noise
    sampler.noise = lambda seeds: torch.where(
        torch.tensor([seed == SEEDS[1] for seed in seeds])[:, None, None, None], torch.nan, noise(seeds)
    )
    made = sampler.finished(list, prompts, SEEDS, WAY)
    assert made[1] == Failure("latents that aren't finite numbers")
    np.testing.assert_array_equal(made[0], samples[0])
