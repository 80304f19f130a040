import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from raydistill.core.errors import InputError
from raydistill.data.images import mirrored
from raydistill.matching.near_copy import DETAIL_WEIGHT, DISPLACEMENT, PLAIN_RANGE, StructureIndex
from raydistill.matching.thumbnails import THUMBNAIL, compared_by, plain_vectors, resized


def pictures(number, side=32, seed=0):
    noise = np.random.default_rng(seed).normal(size=(number, side, side))
    smooth = ndimage.gaussian_filter(noise, (0, side / 16, side / 16))
    low, high = smooth.min(axis=(1, 2), keepdims=True), smooth.max(axis=(1, 2), keepdims=True)
    return (40 + 170 * (smooth - low) / (high - low)).astype(np.uint8)


@pytest.fixture(scope="module")
def images():
    return pictures(60)


@pytest.fixture(scope="module")
def index(images):
    return StructureIndex.of(images, 3)


@pytest.fixture(scope="module")
def strangers(index):
    return index.search(pictures(60, seed=1))[0].max()


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=50)
    return np.asarray(Image.open(buffer))


COPIES = {
    "shift": lambda image: np.roll(image, (2, -1), (0, 1)),
    "crop": lambda image: np.asarray(Image.fromarray(image).resize((32, 32), box=(1, 1, 30, 30))),
    "contrast": lambda image: np.clip(0.7 * image.astype(float) + 30, 0, 255).astype(np.uint8),
    "blur": lambda image: ndimage.gaussian_filter(image, 1),
    "jpeg": jpeg,
    "mirror": mirrored,
    "mirror and shift": lambda image: np.roll(mirrored(image), (2, -1), (0, 1)),
}


def test_an_image_is_its_own_copy(index, images):
    scores, rows = index.search(images)
    assert rows.tolist() == list(range(len(images)))
    np.testing.assert_allclose(scores, 1, atol=1e-5)
    assert scores.dtype == np.float64
    assert rows.dtype == np.int64


@pytest.mark.parametrize("copy", COPIES)
def test_finds_copies_among_strangers(index, images, strangers, copy):
    scores, rows = index.search(np.stack([COPIES[copy](image) for image in images]))
    assert np.mean((scores > strangers) & (rows == np.arange(len(images)))) > 0.9


@pytest.mark.parametrize("copy", ["shift", "crop", "blur"])
def test_a_mirrored_copy_scores_as_the_copy_itself(index, images, copy):
    copies = np.stack([COPIES[copy](image) for image in images])
    (scores, rows), (other, their) = index.search(copies), index.search(mirrored(copies))
    np.testing.assert_allclose(other, scores, atol=1e-6)
    assert their.tolist() == rows.tolist()
    # Each of the measures by itself, too.
    for measure in (index._placed, index._plain):
        np.testing.assert_allclose(measure(mirrored(copies))[0], measure(copies)[0], atol=1e-6)


def correlations(queries, images, shift):
    """Correlate by numpy, over every shift of the unreduced query, less the displacement's cost."""
    side = THUMBNAIL - 2 * shift
    middle = [image[shift : shift + side, shift : shift + side].ravel() for image in images.astype(float)]
    return [
        max(
            np.corrcoef(query[i : i + side, j : j + side].ravel(), template)[0, 1]
            - DISPLACEMENT * np.hypot(i - shift, j - shift)
            for i in range(2 * shift + 1)
            for j in range(2 * shift + 1)
            for template in middle
        )
        for query in queries.astype(float)
    ]


def plainly(queries, images):
    """Compare pixels by brute force in double precision, (N, G)."""
    small = [resized(side, 16).reshape(len(side), -1).astype(float).clip(0, 255) for side in (queries, images)]
    return 1 - ((small[0][:, None] - small[1]) ** 2).mean(axis=2) / PLAIN_RANGE


def detailed(queries, images):
    """Correlate what a blur takes away by brute force in double precision, (N, G)."""
    small = [resized(side, 32).astype(float) for side in (queries, images)]
    details = [(side - ndimage.gaussian_filter(side, (0, 3, 3))).reshape(len(side), -1) for side in small]
    return 1 - DETAIL_WEIGHT * (1 - np.corrcoef(np.concatenate(details))[: len(queries), len(queries) :])


def both_ways(queries):
    return queries, mirrored(queries)


def test_equals_brute_force_by_every_measure(images):
    queries = pictures(5, seed=2)
    in_place = [np.maximum(plainly(q, images), detailed(q, images)).max(axis=1) for q in both_ways(queries)]
    placed = [correlations(q, images, 2) for q in both_ways(queries)]
    best = np.max([*in_place, *placed], axis=0)
    scores, _ = StructureIndex.of(images, 2).search(queries)
    assert (scores >= best - 1e-5).all()  # a reduction may find more, never less


def test_without_shift_it_is_the_best_of_correlation_pixels_and_details(images):
    queries = np.concatenate([pictures(5, seed=3), images[:5] // 2 + 60])
    scores, rows = StructureIndex.of(images, 0).search(queries)
    tables = [
        np.maximum(
            np.corrcoef(np.concatenate([asked, images]).reshape(-1, 1024).astype(float))[:10, 10:],
            np.maximum(plainly(asked, images), detailed(asked, images)),
        )
        for asked in both_ways(queries)
    ]
    table = np.maximum(*tables)
    np.testing.assert_allclose(scores, table.max(axis=1), atol=1e-5)
    assert rows.tolist() == table.argmax(axis=1).tolist()


@pytest.mark.parametrize(("measure", "by_brute_force"), [("_plain", plainly), ("_detailed", detailed)])
def test_pixels_and_details_are_searched_exactly(images, measure, by_brute_force):
    queries, index = pictures(40, seed=8), StructureIndex.of(images, 2)
    table = np.maximum(*(by_brute_force(asked, images) for asked in both_ways(queries)))
    scores, rows = getattr(index, measure)(queries)
    np.testing.assert_allclose(scores, table.max(axis=1), atol=1e-5)
    assert rows.tolist() == table.argmax(axis=1).tolist()


def test_pixels_and_their_one_more_entry_have_length_1_at_most():
    assert np.linalg.norm(plain_vectors(np.full((1, 8, 8), 255, np.uint8)), axis=1) <= 1 + 1e-6


def test_pixels_in_place_are_correlated_exactly(images):
    queries = pictures(40, seed=8)
    middles = [
        side[:, 2:30, 2:30].reshape(len(side), -1).astype(float) for side in (queries, mirrored(queries), images)
    ]
    table = np.maximum(*(np.corrcoef(np.concatenate([asked, middles[2]]))[:40, 40:] for asked in middles[:2]))
    found = StructureIndex.of(images, 2).in_place(queries)
    np.testing.assert_allclose(found.scores[:, 0], table.max(axis=1), atol=1e-5)
    assert found.indices[:, 0].tolist() == table.argmax(axis=1).tolist()


def test_what_kept_only_its_details_is_found(images):
    """Exposure and outline made up anew, small structures known by heart: what comes back from far in the noise."""
    outline = ndimage.gaussian_filter(images.astype(float), (0, 3, 3))
    others = np.roll(outline, 7, axis=0)
    made = np.clip(others + images - outline, 0, 255).astype(np.uint8)
    index = StructureIndex.of(images, 2)
    own = np.arange(len(images))
    assert (index._detailed(made)[1] == own).mean() > 0.95
    assert (index._placed(made)[1] == own).mean() < 0.75


def test_a_copy_that_kept_its_place_counts_for_more_than_one_that_moved(images):
    index = StructureIndex(compared_by(images, 3))
    moved = np.stack([np.roll(image, (2, -1), (0, 1)) for image in images])
    expected = 1 - DISPLACEMENT * np.hypot(2, 1)
    np.testing.assert_allclose(index._placed(moved)[0], expected, atol=1e-5)


def test_exposure_does_not_matter_to_what_is_placed(index):
    queries = pictures(8, seed=4)
    scores, rows = index._placed(queries)
    darker = index._placed(queries // 2)
    np.testing.assert_allclose(scores, darker[0], atol=2e-3)
    assert rows.tolist() == darker[1].tolist()


def test_a_query_does_not_depend_on_its_batch(index):
    queries = pictures(70, seed=5)
    whole = index.search(queries)[0]
    single = np.concatenate([index.search(query[None])[0] for query in queries])
    np.testing.assert_allclose(whole, single, atol=1e-6)


def test_the_resolution_of_the_query_is_free(images):
    large = np.stack([np.asarray(Image.fromarray(image).resize((96, 96))) for image in images])
    scores, rows = StructureIndex.of(images, 3).search(large)
    assert rows.tolist() == list(range(len(images)))
    assert scores.min() > 0.97


def test_flat_pictures_have_no_structure_and_are_compared_by_their_pixels(images):
    flat = np.full((2, 32, 32), 77, np.uint8)
    scores, _ = StructureIndex.of(images, 2).search(flat)
    np.testing.assert_allclose(scores, plainly(flat, images).max(axis=1).clip(1 - DETAIL_WEIGHT), atol=1e-5)
    np.testing.assert_allclose(StructureIndex.of(flat, 2).search(flat)[0], 1, atol=1e-6)


def test_refuses_what_it_cannot_compare(images):
    with pytest.raises(InputError, match="empty"):
        StructureIndex.of(images[:0], 2)
    with pytest.raises(InputError, match="near_copy_max_shift"):
        StructureIndex.of(images, THUMBNAIL // 2)
    with pytest.raises(InputError, match="uint8"):
        StructureIndex.of(images, 2).search(images.astype(np.float32))
    with pytest.raises(InputError, match="N, R, R"):
        StructureIndex.of(images[:, :20], 2)
