import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from raydistill.core.training import DiffusionConfig
from raydistill.diffusion import components
from raydistill.diffusion.objective import DiffusionObjective


@pytest.fixture(scope="module")
def data(tiny, images, prompts):
    parts = components.load(tiny)
    latents = components.encode_images(parts.vae, images, 8)
    return (
        latents,
        components.encode_images(parts.vae, images[:, :, ::-1], 8),
        components.tokenize(parts.tokenizer, prompts),
    )


def objective(folder, data, **changes):
    latents, flipped, ids = data
    options = {"batch_size": 8, "prompt_dropout": 0.25, "train_text_encoder": True, "seed": 11} | changes
    return DiffusionObjective(folder, latents, flipped, ids, **options)


@pytest.mark.parametrize("train_text_encoder", [True, False])
def test_two_workers_see_what_one_would_have_seen(tiny, data, train_text_encoder):
    task = objective(tiny, data, train_text_encoder=train_text_encoder)
    model = task.build()
    whole = task.loss(model, 4, slice(0, 8))
    halves = [task.loss(model, 4, part) for part in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-5, atol=1e-6)


def test_an_epoch_shows_every_row_once_whatever_the_batch(tiny, data):
    task = objective(tiny, data, batch_size=3)
    task.build()
    rows = np.concatenate([task.batch(step).rows for step in range(16)])
    assert all(sorted(rows[start : start + 8]) == list(range(8)) for start in range(0, 48, 8))
    larger = objective(tiny, data, batch_size=12)
    larger.build()
    np.testing.assert_array_equal(rows, np.concatenate([larger.batch(step).rows for step in range(4)]))


def test_a_step_is_a_function_of_seed_and_step(tiny, data):
    first, second = objective(tiny, data), objective(tiny, data)
    model, _ = first.build(), second.build()
    torch.manual_seed(0)
    one = first.loss(model, 2, slice(0, 8))
    torch.manual_seed(99)
    assert one == second.loss(model, 2, slice(0, 8))
    assert one != first.loss(model, 3, slice(0, 8))


def test_dropped_prompts_are_the_empty_prompt(tiny, data):
    task = objective(tiny, data, prompt_dropout=1.0)
    task.build()
    prompts = task._prompts(task.batch(0), slice(0, 8))
    assert (prompts == torch.from_numpy(task.empty_ids)).all()


def test_given_embeddings_are_those_of_the_text_encoder(tiny, data):
    frozen, trained = objective(tiny, data, train_text_encoder=False), objective(tiny, data)
    torch.testing.assert_close(
        frozen.loss(frozen.build(), 1, slice(0, 8)), trained.loss(trained.build(), 1, slice(0, 8)), rtol=1e-4, atol=1e-5
    )
    assert len(frozen.embeddings) == 5


def test_flips_replace_about_half_of_the_rows(tiny, data):
    task = objective(tiny, data, batch_size=64)
    task.build()
    batch = task.batch(0)
    chosen = task._latents(batch, slice(0, 64)).numpy()
    assert 0.3 < batch.flipped.mean() < 0.7
    expected = np.where(batch.flipped[:, None, None, None], data[1][batch.rows], data[0][batch.rows])
    np.testing.assert_array_equal(chosen, expected)
    plain = DiffusionObjective(
        tiny, data[0], None, data[2], batch_size=64, prompt_dropout=0, train_text_encoder=True, seed=1
    )
    plain.build()
    assert not plain.batch(0).flipped.any()


def test_a_perfect_prediction_has_no_loss(tiny, data):
    class Oracle(torch.nn.Module):
        def __init__(self, target):
            super().__init__()
            self.target, self.one = target, torch.nn.Parameter(torch.ones(1))

        def forward(self, noisy, timesteps, prompts):
            return self.target * self.one

    task = objective(tiny, data)
    task.build()
    batch = task.batch(0)
    alpha = task.scheduler.alphas_cumprod[batch.timesteps].reshape(-1, 1, 1, 1)
    clean = task._latents(batch, slice(0, 8))
    velocity = alpha.sqrt() * batch.noise - (1 - alpha).sqrt() * clean
    assert task.loss(Oracle(velocity), 0, slice(0, 8)) < 1e-10


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
def test_overfitting_a_few_images_lowers_the_loss_and_export_keeps_what_was_learned(data, tmp_path, prediction_type):
    config = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32, prediction_type=prediction_type)
    components.build_tiny(config, resolution=16, seed=0, folder=tmp_path / "initial")
    task = objective(tmp_path / "initial", data)
    model = task.build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for step in range(80):
        loss = task.loss(model, step, slice(0, 8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:5])
    task.export(model, tmp_path / "trained")
    exported = objective(tmp_path / "trained", data)
    torch.testing.assert_close(exported.loss(exported.build(), 7, slice(0, 8)), task.loss(model, 7, slice(0, 8)))
    assert DiffusionPipeline.from_pretrained(tmp_path / "trained").scheduler.config.prediction_type == prediction_type
    assert not [file for file in (tmp_path / "trained").rglob("*") if file.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]


def test_export_without_text_encoder_keeps_the_initial_one(tiny, data, tmp_path):
    task = objective(tiny, data, train_text_encoder=False)
    task.export(task.build(), tmp_path / "out")
    for file in ("text_encoder/model.safetensors", "tokenizer/vocab.json", "vae/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "out" / file).read_bytes() == (tiny / file).read_bytes()
