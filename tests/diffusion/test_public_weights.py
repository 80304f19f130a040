import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raydistill.data.images import encode_png
from raydistill.diffusion import public_weights

ROOT = Path(__file__).parents[2]
PATHS = {"PYTHONPATH": str(ROOT)}


def test_standardising_changes_the_latents_and_not_the_pictures():
    torch.manual_seed(0)
    vae = public_weights.autoencoder().eval()
    source = [np.random.default_rng(0).integers(0, 256, (20, 64, 64), dtype=np.uint8)]
    images = public_weights.batch(source, 0)[:4]
    copy = public_weights.standardised(vae, source)
    with torch.inference_mode():
        latents = copy.encode(images).latent_dist.mean
        expected = vae.decode(vae.encode(images).latent_dist.mean).sample
        torch.testing.assert_close(copy.decode(latents).sample, expected, atol=1e-4, rtol=1e-3)
    assert latents.mean().abs() < 0.3
    assert latents.std() == pytest.approx(1.0, abs=0.3)


def test_a_short_training_writes_a_folder_that_can_be_measured(tmp_path):
    table = pa.table({"image": [encode_png(np.zeros((32, 32), np.uint8))] * 2})
    pq.write_table(table, tmp_path / "two.parquet")
    line = [sys.executable, "jobs/public_weights.py", "--folder", tmp_path, "--measure", tmp_path / "two.parquet"]
    line += ["--train", "--steps", "2", "--pictures", "8"]
    said = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | PATHS)
    assert (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").exists()
    assert json.loads(said.stdout.splitlines()[-1])["64"]["psnr"] > 0
