"""A real UNet and text encoder, cut among two workers: the curve of plain PyTorch, and exports that are the live model."""

from functools import partial

import numpy as np
import pytest
import torch
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer

from raydistill.core.training import DiffusionConfig
from raydistill.diffusion import components
from raydistill.diffusion.objective import DiffusionObjective
from raydistill.distributed.stream import Parts
from raydistill.distributed.worker import Worker
from tests.distributed.jobs import curve_job, losses, options, plain

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS, BATCH, LATER = 8, 4, 1000
SMALL = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32)
CASES = {
    "zero-1": {"zero_stage": 1},
    "zero-2": {"zero_stage": 2, "gradient_accumulation_steps": 2},
    "zero-3": {"zero_stage": 3},
    "zero-3-checkpointed": {"zero_stage": 3, "gradient_checkpointing": True},
    "offloaded": {"zero_stage": 2, "offload_optimizer": True},
    "bf16": {"zero_stage": 2, "precision": "bf16"},
    "bf16-zero-3": {"zero_stage": 3, "precision": "bf16"},
}


class Denoising(DiffusionObjective):
    """The product's objective on a few rows that it has by itself."""

    def loss(self, model, step, part, rows):
        rng = np.random.default_rng(7)
        latents = rng.normal(size=(BATCH, 4, 8, 8)).astype(np.float16)
        words = np.tile(self.empty, (BATCH, 1)) - np.arange(BATCH)[:, None] % 3
        return super().loss(model, step, part, {"latents": latents[part], "words": words[part]})


def objective(folder, **deepspeed):
    engine = SMALL.deepspeed.model_copy(update=deepspeed)
    return Denoising(folder, SMALL.model_copy(update={"deepspeed": engine}), seed=3)


def train_and_look(config):
    """Train each job; then let the live, cut module predict once more."""
    for job in config["jobs"]:
        worker = Worker(job, None)
        worker.run()
        parts = Parts(BATCH, worker.workers, 1)
        part = parts.part(worker.rank)
        with torch.no_grad():
            loss = worker.objective.loss(worker.engine.wrapped, LATER, part, {}) * parts.weight(part)
        (mean,) = worker._agree(loss)
        if worker.rank == 0:
            job.work.write_json("live.json", mean)


@pytest.fixture(scope="module")
def trained(local_ray, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    components.build_tiny(SMALL, resolution=32, seed=1, folder=folder / "initial")
    how = options(batch=BATCH, steps=STEPS, lr=1e-3, checkpoint_every=1000)
    jobs = {
        name: curve_job(
            folder / name,
            workers=2,
            make=partial(objective, folder / "initial", **case),
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
    return folder, jobs, plain(objective(folder / "initial"), how)[0]


@pytest.mark.parametrize("name", CASES)
def test_the_curve_is_that_of_plain_pytorch(trained, name):
    _, jobs, expected = trained
    tolerance = 0.03 if "bf16" in name else 1e-4
    np.testing.assert_allclose(losses(jobs[name].out.read_json("history.json")), expected, rtol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_the_exported_folder_predicts_what_the_live_model_did(trained, name):
    folder, jobs, _ = trained
    exported = objective(folder / name / "out" / "model")
    with torch.no_grad():
        loss = exported.loss(exported.build(), LATER, slice(0, BATCH), {})
    tolerance = 0.03 if "bf16" in name else 1e-5
    assert loss.item() == pytest.approx(jobs[name].work.read_json("live.json"), rel=tolerance)
