import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from raydistill.core.training import DiffusionConfig, LoraConfig
from raydistill.diffusion import components
from raydistill.diffusion.latents import Encoder
from raydistill.diffusion.objective import DiffusionObjective

WHOLE = slice(0, 8)


@pytest.fixture(scope="module")
def rows(tiny, images, prompts):
    """The eight images as rows, by whether the text encoder is trained."""
    return {trained: encoded(tiny, images, prompts, trained) for trained in (True, False)}


def encoded(folder, images, prompts, train_text_encoder=True, with_flipped=True):
    encoder = Encoder(components.load(folder), is_text_frozen=not train_text_encoder, with_flipped=with_flipped)
    latents = {"latents": encoder._latents(images), "words": encoder._words(prompts)}
    return latents | ({"flipped": encoder._latents(images[:, :, ::-1])} if with_flipped else {})


def part_of(rows, part):
    return {name: column[part] for name, column in rows.items()}


def objective(folder, **changes):
    config = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32, prompt_dropout=0.25)
    return DiffusionObjective(folder, config.model_copy(update=changes), seed=11)


@pytest.mark.parametrize("train_text_encoder", [True, False])
@pytest.mark.parametrize("snr_gamma", [None, 5.0])
def test_workers_see_what_one_would_have_seen(tiny, rows, train_text_encoder, snr_gamma):
    task, mine = objective(tiny, train_text_encoder=train_text_encoder, snr_gamma=snr_gamma), rows[train_text_encoder]
    model = task.build()
    whole = task.loss(model, 4, WHOLE, mine)
    parts = [(slice(0, 3), 3), (slice(3, 8), 5)]
    split = sum(task.loss(model, 4, part, part_of(mine, part)) * size for part, size in parts) / 8
    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-6)


def test_a_step_is_a_function_of_seed_and_step(tiny, rows):
    first, second = objective(tiny), objective(tiny)
    model, _ = first.build(), second.build()
    torch.manual_seed(0)
    one = first.loss(model, 2, WHOLE, rows[True])
    torch.manual_seed(99)
    assert one == second.loss(model, 2, WHOLE, rows[True])
    assert one != first.loss(model, 3, WHOLE, rows[True])


def test_dropped_prompts_are_the_empty_prompt(tiny, rows):
    task = objective(tiny, prompt_dropout=1.0)
    task.build()
    dropped = task.draws(0, WHOLE, (4, 4, 4)).dropped
    assert dropped.all()
    assert (task._words(rows[True]["words"], dropped) == task.empty).all()
    few = objective(tiny, prompt_dropout=0.25)
    few.build()
    assert 0.15 < few.draws(0, slice(0, 400), (1,)).dropped.mean() < 0.35


def test_given_embeddings_are_those_of_the_text_encoder(tiny, rows):
    frozen, trained = objective(tiny, train_text_encoder=False), objective(tiny)
    got = frozen.loss(frozen.build(), 1, WHOLE, rows[False])
    torch.testing.assert_close(got, trained.loss(trained.build(), 1, WHOLE, rows[True]), rtol=2e-3, atol=1e-4)


def test_flips_replace_about_half_of_the_rows(tiny, images, prompts):
    from raydistill.diffusion.objective import _chosen

    task = objective(tiny)
    task.build()
    mine = encoded(tiny, np.tile(images, (8, 1, 1)), prompts * 8)
    draws = task.draws(0, slice(0, 64), (4, 4, 4))
    assert 0.3 < draws.flipped.mean() < 0.7
    expected = np.where(draws.flipped[:, None, None, None], mine["flipped"], mine["latents"])
    np.testing.assert_array_equal(_chosen(mine, draws).numpy(), expected.astype(np.float32))
    without = {name: mine[name] for name in ("latents", "words")}
    np.testing.assert_array_equal(_chosen(without, draws).numpy(), mine["latents"].astype(np.float32))


class Oracle(torch.nn.Module):
    """Predicts a given target, `off` by a constant."""

    def __init__(self, target, off=0.0):
        super().__init__()
        self.target, self.off, self.one = target, off, torch.nn.Parameter(torch.ones(1))

    def forward(self, noisy, timesteps, words):
        return (self.target + self.off) * self.one


def velocity(task, rows):
    draws = task.draws(0, WHOLE, rows["latents"].shape[1:])
    alpha = task.scheduler.alphas_cumprod[draws.timesteps].reshape(-1, 1, 1, 1)
    clean = torch.from_numpy(rows["latents"].astype(np.float32))
    return alpha.sqrt() * draws.noise - (1 - alpha).sqrt() * clean, alpha.flatten()


def test_a_perfect_prediction_has_no_loss(tiny, rows):
    task = objective(tiny)
    task.build()
    plain = {name: rows[True][name] for name in ("latents", "words")}
    assert task.loss(Oracle(velocity(task, plain)[0]), 0, WHOLE, plain) < 1e-10


def test_min_snr_weighs_as_the_paper_says(tiny, rows):
    task = objective(tiny, snr_gamma=5.0)
    task.build()
    plain = {name: rows[True][name] for name in ("latents", "words")}
    target, alpha = velocity(task, plain)
    snr = alpha / (1 - alpha)
    expected = (torch.minimum(snr, torch.tensor(5.0)) / (snr + 1)).mean()
    torch.testing.assert_close(task.loss(Oracle(target, off=1.0), 0, WHOLE, plain), expected, rtol=1e-4, atol=1e-6)


def fit(task, rows, steps, lr=2e-3):
    model, losses = task.build(), []
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    for step in range(steps):
        loss = task.loss(model, step, WHOLE, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
def test_overfitting_a_few_images_lowers_the_loss_and_export_keeps_what_was_learned(rows, tmp_path, prediction_type):
    config = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32, prediction_type=prediction_type)
    components.build_tiny(config, resolution=16, seed=0, folder=tmp_path / "initial")
    task = objective(tmp_path / "initial")
    model, losses = fit(task, rows[True], 80)
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:5])
    task.export(model, tmp_path / "trained")
    exported = objective(tmp_path / "trained")
    torch.testing.assert_close(
        exported.loss(exported.build(), 7, WHOLE, rows[True]), task.loss(model, 7, WHOLE, rows[True])
    )
    assert DiffusionPipeline.from_pretrained(tmp_path / "trained").scheduler.config.prediction_type == prediction_type
    assert not [file for file in (tmp_path / "trained").rglob("*") if file.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]


def test_export_without_text_encoder_keeps_the_initial_one(tiny, tmp_path):
    task = objective(tiny, train_text_encoder=False)
    task.export(task.build(), tmp_path / "out")
    for file in ("text_encoder/model.safetensors", "tokenizer/vocab.json", "vae/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "out" / file).read_bytes() == (tiny / file).read_bytes()


def test_an_adaptation_trains_few_parameters_and_is_merged_into_the_export(tiny, rows, tmp_path):
    task = objective(tiny, train_text_encoder=False, lora=LoraConfig(rank=4, alpha=8))
    model, losses = fit(task, rows[False], 60, lr=2e-2)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert 0 < learning < 0.1 * sum(p.numel() for p in model.parameters())
    assert np.mean(losses[-20:]) < np.mean(losses[:5])
    expected = task.loss(model, 7, WHOLE, rows[False])
    task.export(model, tmp_path / "out")
    exported = objective(tmp_path / "out", train_text_encoder=False)
    merged = exported.build()
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    torch.testing.assert_close(exported.loss(merged, 7, WHOLE, rows[False]), expected, rtol=1e-4, atol=1e-5)
    plain = DiffusionPipeline.from_pretrained(tiny)
    plain.load_lora_weights(tmp_path / "out" / "lora")
    merged.unet, adapted = plain.unet.train(), merged.unet
    torch.testing.assert_close(exported.loss(merged, 7, WHOLE, rows[False]), expected, rtol=1e-4, atol=1e-5)
    assert adapted is not merged.unet


def test_checkpointed_activations_give_the_same_gradients(tiny, rows):
    gradients = []
    for checkpointed in (False, True):
        engine = DiffusionConfig().deepspeed.model_copy(update={"gradient_checkpointing": checkpointed})
        task = objective(tiny, deepspeed=engine)
        model = task.build()
        assert model.unet.is_gradient_checkpointing == checkpointed
        task.loss(model, 3, WHOLE, rows[True]).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for with_, without in zip(*gradients, strict=True):
        torch.testing.assert_close(with_, without, rtol=1e-4, atol=1e-6)
