import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from raydistill.data.distortions import TREATMENTS, distort
from raydistill.data.images import mirrored


def pictures(count, side):
    noise = np.random.default_rng(3).normal(size=(count, side, side))
    smooth = ndimage.gaussian_filter(noise, (0, side / 10, side / 10))
    low, high = smooth.min((1, 2), keepdims=True), smooth.max((1, 2), keepdims=True)
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("side", [32, 64])
def test_changes_the_pixels_and_keeps_the_picture(treatment, side):
    images = pictures(6, side)
    treated = distort(images, treatment, list(range(6)))
    assert treated.shape == images.shape
    assert treated.dtype == np.uint8
    for before, after in zip(images, treated, strict=True):
        assert not np.array_equal(before, after)
        assert correlation(mirrored(before) if treatment == "mirror" else before, after) > 0.6


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_an_image_depends_on_its_own_seed_only(treatment):
    images = pictures(5, 32)
    seeds = [11, 12, 13, 14, 15]
    together = distort(images, treatment, seeds)
    alone = np.concatenate([distort(images[i : i + 1], treatment, [seeds[i]]) for i in range(5)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(distort(images[::-1], treatment, seeds[::-1])[::-1], together)


def test_a_picture_has_one_mirror_image():
    images = pictures(3, 32)
    np.testing.assert_array_equal(distort(images, "mirror", [0, 1, 2]), images[:, :, ::-1])


@pytest.mark.parametrize("treatment", [name for name in TREATMENTS if name != "mirror"])
def test_another_seed_is_another_treatment(treatment):
    image = np.repeat(pictures(1, 32), 12, axis=0)
    assert len({one.tobytes() for one in distort(image, treatment, list(range(12)))}) > 6


@settings(max_examples=25)
@given(st.sampled_from(TREATMENTS), st.integers(0, 2**62), st.sampled_from([0, 128, 255]))
def test_never_leaves_the_grey_range(treatment, seed, level):
    flat = np.full((1, 16, 16), level, np.uint8)
    difference = np.abs(distort(flat, treatment, [seed]).astype(int) - level)
    assert difference.max() <= (90 if treatment == "noise" else 1)


def test_wrong_calls_are_refused():
    with pytest.raises(KeyError):
        distort(pictures(1, 8), "melt", [0])
    with pytest.raises(ValueError, match="zip"):
        distort(pictures(2, 8), "blur", [0])
    assert distort(np.zeros((0, 8, 8), np.uint8), "blur", []).shape == (0, 8, 8)
