import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raydistill.data.images import encode_png
from raydistill.diffusion import public_weights


def test_standardising_changes_the_latents_and_not_the_pictures():
    torch.manual_seed(0)
    vae = public_weights.autoencoder().eval()
    source = [np.random.default_rng(0).integers(0, 256, (20, 64, 64), dtype=np.uint8)]
    images = next(public_weights.batches(source, 1))[:4]
    copy = public_weights.standardised(vae, source)
    with torch.inference_mode():
        latents = copy.encode(images).latent_dist.mean
        expected = vae.decode(vae.encode(images).latent_dist.mean).sample
        torch.testing.assert_close(copy.decode(latents).sample, expected, atol=1e-4, rtol=1e-3)
    assert latents.mean().abs() < 0.3
    assert latents.std() == pytest.approx(1.0, abs=0.3)


def test_a_short_training_writes_a_folder_that_can_be_measured(tmp_path, caplog, monkeypatch):
    table = pa.table({"image": [encode_png(np.zeros((32, 32), np.uint8))] * 2})
    pq.write_table(table, tmp_path / "two.parquet")
    common = ["public_weights", "--folder", str(tmp_path), "--measure", str(tmp_path / "two.parquet")]
    monkeypatch.setattr("sys.argv", [*common, "--train", "--steps", "2", "--pictures", "8"])
    with caplog.at_level("INFO"):
        public_weights.main()
    assert (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").exists()
    assert "psnr" in caplog.messages[-1]
