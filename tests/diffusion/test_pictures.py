import numpy as np

from raydistill.diffusion.pictures import draw


def test_a_picture_is_a_function_of_the_seed_and_its_number():
    few, many = draw(3, side=32, seed=1), draw(5, side=32, seed=1)
    np.testing.assert_array_equal(few, many[:3])
    assert few.dtype == np.uint8
    assert few.shape == (3, 32, 32)
    assert not np.array_equal(few, draw(3, side=32, seed=2))


def test_pictures_differ_and_use_the_whole_range():
    pictures = draw(40, side=32, seed=0)
    assert len(np.unique(pictures.reshape(40, -1), axis=0)) == 40
    assert pictures.min() == 0
    assert pictures.max() == 255
