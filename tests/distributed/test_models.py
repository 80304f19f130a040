"""A real UNet and text encoder, cut among two workers: the curve of plain PyTorch, and exports that are the live model."""

from functools import partial

import numpy as np
import pytest
import torch
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer

from raydistill.core.training import DiffusionConfig, LoraConfig
from raydistill.diffusion import components
from raydistill.distributed.worker import Worker
from tests.distributed.denoising import BATCH, SMALL, objective
from tests.distributed.jobs import curve_job, losses, options, plain

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 8
CASES = {
    "zero-1": {"zero_stage": 1},
    "zero-2": {"zero_stage": 2, "gradient_accumulation_steps": 2},
    "zero-3": {"zero_stage": 3},
    "zero-3-checkpointed": {"zero_stage": 3, "gradient_checkpointing": True},
    "offloaded-1": {"zero_stage": 1, "offload_optimizer": True},
    "offloaded": {"zero_stage": 2, "offload_optimizer": True},
    "offloaded-3": {"zero_stage": 3, "offload_optimizer": True},
    "bf16": {"zero_stage": 2, "precision": "bf16"},
    "bf16-zero-3": {"zero_stage": 3, "precision": "bf16", "gradient_accumulation_steps": 2},
    "lora": {"zero_stage": 1},
    "lora-zero-3": {"zero_stage": 3},
}


def config_of(name, folder):
    if "lora" not in name:
        return SMALL
    # With a rank as large as this the adaptation is most of the layer: its part in the outcome can be seen.
    return DiffusionConfig(pretrained=str(folder), train_text_encoder=False, lora=LoraConfig(rank=16, alpha=64))


def predicted(module, device="cpu"):
    """What a module makes of fixed latents, times and words: every parameter has a part in it."""
    generator = torch.Generator().manual_seed(11)
    latents = torch.randn(BATCH, 4, 8, 8, generator=generator)
    inner = getattr(module, "module", module)
    words = torch.arange(BATCH * 64).reshape(BATCH, 64) % 90
    if inner.text_encoder is None:
        words = torch.randn(BATCH, 64, 32, generator=generator)
    kind = next(inner.parameters()).dtype
    words = words.to(kind) if words.is_floating_point() else words
    with torch.no_grad():
        return module(latents.to(device, kind), torch.tensor([10, 300, 600, 900]).to(device), words.to(device)).float()


def train_and_look(config):
    """Train each job; then let the live, cut module predict once more."""
    for job in config["jobs"]:
        worker = Worker(job, None)
        worker.run()
        outcome = predicted(worker.engine.wrapped)
        if worker.rank == 0:
            job.work.write_json("live.json", outcome.flatten().tolist())


@pytest.fixture(scope="module")
def trained(local_ray, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    components.build_tiny(SMALL, resolution=32, seed=1, folder=folder / "initial")
    how = options(batch=BATCH, steps=STEPS, lr=1e-3, checkpoint_every=1000)
    jobs = {
        name: curve_job(
            folder / name,
            workers=2,
            make=partial(objective, folder / "initial", config_of(name, folder / "initial"), **case),
            optimizer=how,
            ema=None,
            **case,
        )
        for name, case in CASES.items()
    }
    TorchTrainer(
        train_and_look,
        train_loop_config={"jobs": list(jobs.values())},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray_train.ScalingConfig(num_workers=2),
        run_config=ray_train.RunConfig(storage_path=str(folder / "ray")),
    ).fit()
    expected = {
        kind: plain(objective(folder / "initial", config_of(kind, folder / "initial")), how)[0] for kind in ("", "lora")
    }
    return folder, jobs, expected


@pytest.mark.parametrize("name", CASES)
def test_the_curve_is_that_of_plain_pytorch(trained, name):
    _, jobs, expected = trained
    tolerance = 0.03 if "bf16" in name else 1e-4
    curve = expected["lora" if "lora" in name else ""]
    np.testing.assert_allclose(losses(jobs[name].out.read_json("history.json")), curve, rtol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_the_exported_folder_predicts_what_the_live_model_did(trained, name):
    folder, jobs, _ = trained
    config = SMALL.model_copy(update={"train_text_encoder": "lora" not in name})
    got = predicted(objective(folder / name / "out" / "model", config).build()).flatten()
    live = torch.tensor(jobs[name].work.read_json("live.json"))
    before = predicted(objective(folder / "initial", config).build()).flatten()
    tolerance = 0.05 if "bf16" in name else 1e-4
    assert (got - live).abs().max() < tolerance * live.abs().max()
    assert (before - live).abs().max() > 5 * tolerance * live.abs().max(), (
        "a training that changed nothing shows nothing"
    )
