import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from raydistill.data.images import encode_png, mirrored
from raydistill.matching import duplicates
from raydistill.matching.duplicates import near_duplicates

from .test_near_copy import pictures

THRESHOLD = 0.997


def found(*images, threshold=THRESHOLD):
    near = near_duplicates([encode_png(np.asarray(image, np.uint8)) for image in images], threshold)
    return {row: one.of for row, one in near.items()}


def similarity(earlier, later):
    near = near_duplicates([encode_png(earlier), encode_png(later)], 1e-3).get(1)
    return near.similarity if near else 0.0


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def cut(image, *box):
    return np.asarray(Image.fromarray(image).resize(image.shape, Image.Resampling.LANCZOS, box=box))


COPIES = {
    "jpeg": jpeg,
    "shift": lambda image: np.roll(image, (2, -2), (0, 1)),
    "half a pixel": lambda image: ndimage.shift(image.astype(float), (0.5, 0.5), order=1, mode="nearest"),
    "crop": lambda image: cut(image, 2, 2, 62, 62),
    "corner": lambda image: cut(image, 1, 1, 64, 64),
    "contrast": lambda image: (image - image.mean()) * 0.9 + image.mean(),
    "brightness": lambda image: image * 0.9,
    "blur": lambda image: ndimage.gaussian_filter(image, 0.7),
    "mirror": mirrored,
    "mirror and shift": lambda image: np.roll(mirrored(image), (2, -2), (0, 1)),
    "resize": lambda image: Image.fromarray(image).resize((32, 32), Image.Resampling.LANCZOS),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_repeat_the_picture_whichever_comes_first(copy):
    for image in pictures(10, side=64, seed=3):
        assert found(image, COPIES[copy](image)) == {1: 0}
        assert found(COPIES[copy](image), image) == {1: 0}


def test_other_pictures_repeat_nothing():
    assert found(*pictures(80, side=64)) == {}


def test_flat_pictures_repeat_nothing():
    flat = np.full((64, 64), 9)
    assert found(flat, flat, *pictures(3), flat) == {}


def test_nothing_to_compare():
    assert near_duplicates([], THRESHOLD) == {}
    assert found(pictures(1)[0]) == {}


def test_only_kept_pictures_make_others_repeat():
    """A chain of small steps keeps its first, and the first that is too far from it."""
    one, two = pictures(2, side=64, seed=1).astype(float)
    chain = [(1 - share) * one + share * two for share in np.linspace(0, 1, 60)]
    near = found(*chain)
    assert 0 < len(near) < 59
    assert not set(near.values()) & set(near)
    assert found(*(image for row, image in enumerate(chain) if row not in near)) == {}


def test_the_most_similar_kept_picture_is_named():
    one, two = pictures(2, side=64, seed=2)
    mixed = np.asarray(0.3 * one + 0.7 * two, np.uint8)
    apart, near, nearest = similarity(one, two), similarity(one, mixed), similarity(two, mixed)
    assert apart < near < nearest
    assert found(one, two, mixed, threshold=(apart + near) / 2) == {2: 1}


def brute_force(images, threshold):
    """Correlate every pair at every placement in double precision, with areas cut out by hand."""
    kept, near = [], {}
    middles = []
    for row, image in enumerate(images):
        places = [cells(view, *place) for view in (image, image[:, ::-1]) for place in PLACEMENTS]
        scores = [max(np.corrcoef(place, middle)[0, 1] for place in places) for middle in middles]
        if scores and max(scores) >= threshold:
            near[row] = (kept[int(np.argmax(scores))], max(scores))
        else:
            kept.append(row)
            middles.append(cells(image, 2, 2, 60))
    return near


def cells(image, top, left, side):
    """Means of 12 x 12 areas, by integrating the pixels: exact for any edge."""
    total = np.pad(image.astype(float).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    edges = [np.linspace(start, start + side, 13) for start in (top, left)]
    corner = ndimage.map_coordinates(total, np.meshgrid(*edges, indexing="ij"), order=1, mode="nearest")
    return np.diff(np.diff(corner, axis=0), axis=1).ravel()


PLACEMENTS = [
    ((64 - side) / 2 + down / 2, (64 - side) / 2 + right / 2, side)
    for cropped, reach in ((0, 4), (1, 1), (2, 2), (3, 1), (4, 0))
    for side in {60 * 64 / (64 - cropped), 60 * (64 - cropped) / 64}
    for down in range(-reach, reach + 1)
    for right in range(-reach, reach + 1)
]


@pytest.mark.parametrize("threshold", [0.6, 0.95])
def test_equals_brute_force(threshold):
    images = pictures(8, side=64, seed=4)
    images = np.concatenate([images, np.roll(images[:4], 1, axis=1), images[2:6] // 2 + 20, mirrored(images[6:])])
    near = near_duplicates([encode_png(image) for image in images], threshold)
    expected = brute_force(images, threshold)
    assert {row: one.of for row, one in near.items()} == {row: of for row, (of, _) in expected.items()}
    np.testing.assert_allclose(
        [one.similarity for one in near.values()], [score for _, score in expected.values()], atol=1e-5
    )


def test_there_are_as_many_placements_as_documented():
    assert sum((len(line) // duplicates.CELLS) ** 2 for line in duplicates._lines()) == len(PLACEMENTS) == 169
    for line in duplicates._lines():
        np.testing.assert_allclose(line.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"), [("CENTRES", 1), ("CENTRES", 169), ("LOW", 2), ("LOW", 144), ("KEPT_AT_ONCE", 3)]
)
def test_what_bounds_cost_changes_no_result(monkeypatch, name, value):
    images = pictures(40, side=32, seed=5)
    images[30:] = mirrored(np.roll(images[:10], 1, axis=1))
    images = [encode_png(image) for image in images]
    before = near_duplicates(images, 0.6)
    monkeypatch.setattr(duplicates, name, value)
    after = near_duplicates(images, 0.6)
    assert {row: one.of for row, one in before.items()} == {row: one.of for row, one in after.items()}
    assert 0 < len(before) < 40


POOL = [*pictures(4, side=32, seed=6), np.zeros((32, 32), np.uint8)]
POOL += [np.roll(image, 1, axis=0) for image in POOL[:2]]
POOL += [mirrored(POOL[2])]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(POOL) - 1), max_size=10), st.floats(0.5, 0.999))
def test_kept_pictures_are_apart_and_every_other_has_one(order, threshold):
    images = [POOL[i] for i in order]
    near = near_duplicates([encode_png(image) for image in images], threshold)
    assert all(one.of < row and one.of not in near for row, one in near.items())
    assert all(threshold <= one.similarity <= 1 for one in near.values())
    kept = [row for row in range(len(images)) if row not in near]
    assert found(*(images[row] for row in kept), threshold=threshold) == {}
    textured = [order[row] for row in kept if order[row] != 4]
    assert len(set(textured)) == len(textured)
