import numpy as np
import pytest
import torch

from raydistill.core.training import DiffusionConfig
from raydistill.data.phantom import render
from raydistill.diffusion import components

PROMPTS = ["chest x-ray, pa view, female", "chest x-ray, ap view, male", "chest x-ray, effusion", "chest x-ray"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def config():
    return DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32)


@pytest.fixture(scope="session")
def tiny(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "initial"
    components.prepare_initial(config, resolution=16, seed=3, folder=folder)
    return folder


@pytest.fixture(scope="session")
def images():
    patients = np.arange(8)
    return render(patients, np.zeros_like(patients), seed=5, resolution=16).images


@pytest.fixture(scope="session")
def prompts():
    return PROMPTS * 2
