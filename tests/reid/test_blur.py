import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.reid.augmentation import gaussian_blur


@pytest.mark.parametrize("sigma", [0.4, 0.8, 2.5])
def test_blurring_is_that_of_scipy(sigma):
    images = np.random.default_rng(0).random((3, 20, 20))
    radius = max(1, int(np.ceil(3 * sigma)))
    expected = [scipy.ndimage.gaussian_filter(image, sigma, mode="nearest", radius=radius) for image in images]
    np.testing.assert_allclose(gaussian_blur(torch.from_numpy(images), sigma).numpy(), expected, atol=1e-9)
    whole = [scipy.ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=8) for image in images]
    np.testing.assert_allclose(gaussian_blur(torch.from_numpy(images), sigma).numpy(), whole, atol=0.02)


@settings(max_examples=30)
@given(grey=st.floats(0, 1), sigma=st.floats(0.2, 3), side=st.integers(1, 30))
def test_blurring_keeps_a_constant_image(grey, sigma, side):
    constant = torch.full((1, side, side), grey)
    torch.testing.assert_close(gaussian_blur(constant, sigma), constant, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0])
def test_blurring_keeps_what_is_away_from_the_border(sigma):
    images = torch.zeros(2, 30, 30)
    images[:, 12:18, 12:18] = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0))
    blurred = gaussian_blur(images, sigma)
    torch.testing.assert_close(blurred.sum(dim=(1, 2)), images.sum(dim=(1, 2)))
    assert (blurred.amax(dim=(1, 2)) < images.amax(dim=(1, 2))).all()
