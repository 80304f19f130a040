import numpy as np
import pytest

from raydistill.data.images import mirrored
from raydistill.matching.mirror import either_way, flipped, in_halves


@pytest.fixture
def pictures():
    return np.random.default_rng(0).normal(size=(6, 8, 8)).astype(np.float32)


def test_halves_keep_lengths_and_products(pictures):
    flat, halves = pictures.reshape(6, -1), in_halves(pictures)
    assert halves.shape == (6, 64)
    assert halves.dtype == np.float32
    np.testing.assert_allclose(halves @ halves.T, flat @ flat.T, atol=1e-4)
    assert np.array_equal(in_halves(pictures.reshape(2, 3, 8, 8)), halves.reshape(2, 3, 64))


def test_a_mirror_image_is_a_change_of_signs(pictures):
    assert np.array_equal(in_halves(pictures[..., ::-1]), flipped(in_halves(pictures), 32))
    assert np.array_equal(flipped(flipped(in_halves(pictures), 32), 32), in_halves(pictures))


def test_either_way_is_the_better_of_two_products(pictures):
    queries, rows = in_halves(pictures[:2]), in_halves(pictures[2:])
    flat = pictures.reshape(6, -1)
    other = pictures[:2, :, ::-1].reshape(2, -1)
    expected = np.maximum(flat[:2] @ flat[2:].T, other @ flat[2:].T)
    np.testing.assert_allclose(either_way(queries, rows, 32), expected, atol=1e-5)


def test_mirrored_pictures_are_their_own_arrays():
    images = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    other = mirrored(images)
    assert other[0].tolist() == [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8]]
    assert other.flags.c_contiguous
    assert np.array_equal(mirrored(other), images)
