"""Models as they lie on the hub: names, files and schedules of years ago."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from raydistill.core.training import DiffusionConfig, LoraConfig
from raydistill.diffusion import components
from raydistill.diffusion.folder import find
from raydistill.diffusion.objective import DiffusionObjective
from raydistill.diffusion.sampling import Sampler, Way
from tests.diffusion import hub


@pytest.fixture(scope="module", params=["1.x", "2.x"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "model"
    return request.param, folder, hub.write(folder, request.param)


def test_it_is_as_old_as_those_on_the_hub(model):
    _, folder, _ = model
    with safe_open(folder / "vae/diffusion_pytorch_model.safetensors", "pt") as file:
        assert "decoder.mid_block.attentions.0.proj_attn.weight" in set(file.keys())
    with safe_open(folder / "text_encoder/model.safetensors", "pt") as file:
        assert "text_model.embeddings.position_ids" in set(file.keys())
    assert sorted(path.name for path in (folder / "tokenizer").iterdir()) == [
        "merges.txt",
        "tokenizer_config.json",
        "vocab.json",
    ]
    assert not (folder / "safety_checker").exists()


def test_it_is_taken_up_whole_and_at_another_resolution(model, tmp_path):
    release, folder, whole = model
    config = DiffusionConfig(pretrained=str(folder), train_text_encoder=False, lora=LoraConfig())
    components.check_start(config, 64)
    components.prepare_initial(config, resolution=64, seed=0, folder=tmp_path / "initial")
    parts = components.load(tmp_path / "initial")
    for part in ("unet", "vae", "text_encoder"):
        taken, given = getattr(parts, part).state_dict(), getattr(whole, part).state_dict()
        assert taken.keys() == given.keys()
        assert all(torch.equal(value, given[name]) for name, value in taken.items())
    assert parts.unet.config.sample_size == 8
    prompts = ["Chest X-ray, AP view", "no finding"]
    np.testing.assert_array_equal(
        components.tokenize(parts.tokenizer, prompts), components.tokenize(whole.tokenizer, prompts)
    )
    assert (parts.scheduler.config.prediction_type == "v_prediction") == (release == "2.x")
    way = Way(guidance_scale=2.0, num_inference_steps=2, batch_size=2)
    assert np.ptp(Sampler(tmp_path / "initial").generate(prompts, [0, 1], way)) > 0


def test_it_learns_what_its_schedule_says(model, tmp_path):
    """Held against diffusers' own: the noise of 1.x, the velocity of 2.x."""
    release, folder, whole = model
    objective = DiffusionObjective(folder, DiffusionConfig(pretrained=str(folder), train_text_encoder=False), seed=1)
    module = objective.build()
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(2, 4, 8, 8)).astype(np.float32)
    words = np.repeat(objective.empty[None], 2, axis=0)
    draws = objective.draws(0, slice(0, 2), (4, 8, 8))
    clean = torch.from_numpy(latents)
    noisy = whole.scheduler.add_noise(clean, draws.noise, draws.timesteps)
    target = draws.noise
    if release == "2.x":
        target = whole.scheduler.get_velocity(clean, draws.noise, draws.timesteps)
    with torch.no_grad():
        expected = ((whole.unet(noisy, draws.timesteps, torch.from_numpy(words)).sample - target) ** 2).mean()
        got = objective.loss(module, 0, slice(0, 2), {"latents": latents, "words": words})
    assert got.item() == pytest.approx(expected.item(), rel=1e-4)


def test_it_is_found_by_its_id(model, hub_cache):
    _, folder, _ = model
    hub_cache(folder, "stable-diffusion-v1-5/stable-diffusion-v1-5")
    found = find("stable-diffusion-v1-5/stable-diffusion-v1-5", local_files_only=True)
    components.check_start(DiffusionConfig(pretrained=str(found), train_text_encoder=False), 64)
    assert json.loads((found / "model_index.json").read_text())["requires_safety_checker"]
