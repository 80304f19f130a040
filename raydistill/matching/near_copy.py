"""Near-copies: the same picture need not have the same embedding, and no network is asked.

Two measures, and the better of them counts. *Placed*: template matching, the zero-mean normalised cross-correlation of
a query's thumbnail with the middle of a gallery thumbnail, at its best over small translations and reductions, less a
little for each pixel of displacement. It ignores brightness and contrast by construction and is hardly moved by blur,
noise and JPEG. *Plain*: how far the pixels are from those of the gallery image, as they lie. A model that returns from
noise to a picture it knows keeps place and exposure, which strangers share too seldom for a free placement to match.
Both compare the query and its mirror image: a model that learned from mirrored images too makes mirrored copies.

Source: normalised cross-correlation, Lewis, Fast Normalized Cross-Correlation, Vision Interface 1995; image pairs at a
distance below a threshold as copies, Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security
2023, section 4. The constants that weigh one against the other were chosen on planted copies of NIH radiographs;
docs/results.md has what they find.
"""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from raydistill.core.errors import InputError
from raydistill.matching.mirror import flipped, in_halves
from raydistill.matching.search import ExactSearch, Neighbours, Places, Scores, merged

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

THUMBNAIL = 32
"""Side of what is compared, in pixels: the cost of a pair doesn't depend on the resolution."""

SIZES = (32, 30, 29, 28)
"""Sides at which a query is tried, in pixels: as it is, and reduced, for a copy may have been cropped and enlarged."""

DISPLACEMENT = 0.005
"""What a pixel off the middle costs a placement, in units of the correlation."""

PLAIN_SIDE = 16
"""Side at which pixels are compared as they lie: noise and blur are averaged away."""

PLAIN_RANGE = 0.14 * 255**2
"""Mean squared difference, in squared grey levels, that takes a similarity from 1 to 0: at about the same similarity
as many strangers are found by either measure."""

GREY = 127.5
"""The middle of the grey range: seen from there, pixels have the smallest numbers and the least rounding."""

PLAIN_LENGTH = 1.25
"""Squared length that a gallery row of pixels and its one more entry have at most."""

QUERIES_AT_ONCE = 64
"""Bounds memory, never changes a result."""


class StructureIndex:
    """Every gallery image, searched exactly by both measures.

    Args:
        gallery: (G, side * side) float32, as `templates` makes them.
        plain: (G, 257) float32, as `plain_vectors` makes them.
        device: as for `ExactSearch`.
    """

    def __init__(self, gallery: Floats, plain: Floats, device: str = "cpu") -> None:
        self.side = math.isqrt(gallery.shape[1])
        self.exact, self.plain = ExactSearch(gallery, device), ExactSearch(plain, device)

    @classmethod
    def of(cls, images: Grey, max_shift: int) -> "StructureIndex":
        """Index images (G, R, R); arguments as for `templates`."""
        return cls(templates(images, max_shift), plain_vectors(images))

    def search(self, queries: Grey) -> tuple[Scores, Places]:
        """Find the gallery image that each query, or its mirror image, is most nearly a copy of.

        Args:
            queries: (N, R, R), 8-bit grey, of any resolution.

        Returns:
            Scores (N,) float64, at most 1 but for rounding, 1 for a copy, and gallery rows (N,) int64, the smallest
            among equal scores.

        Raises:
            InputError: when the queries aren't square and 8-bit.
        """
        scores, rows = np.empty(len(queries), dtype=np.float64), np.empty(len(queries), dtype=np.int64)
        for start in range(0, len(_checked(queries)), QUERIES_AT_ONCE):
            part = slice(start, start + QUERIES_AT_ONCE)
            measures = self._placed(queries[part]), self._plain(queries[part])
            best = merged([Neighbours(found[:, None], where[:, None]) for found, where in measures], 1)
            scores[part], rows[part] = best.scores[:, 0], best.indices[:, 0]
        return scores, rows

    def _placed(self, queries: Grey) -> tuple[Scores, Places]:
        windows, cost = self._windows(queries)
        odd = self.side**2 // 2
        # Placements lie alike to either side: those of the mirror image are these, mirrored.
        best_of_each, rounding = self.exact.best_either_way(windows.reshape(-1, self.side**2), odd)
        rough = best_of_each.reshape(len(queries), -1) - cost
        # Only these can hold the best: they are searched again without rounding.
        owners, places = np.nonzero(rough + 2 * rounding >= rough.max(axis=1, keepdims=True))
        found = self.exact.search_views(_both_ways(windows[owners, places], odd), 1)
        scores = found.scores[:, 0] - cost[places]
        order = np.lexsort((found.indices[:, 0], -scores, owners))
        best = order[np.searchsorted(owners, np.arange(len(queries)))]
        return scores[best], found.indices[best, 0]

    def _plain(self, queries: Grey) -> tuple[Scores, Places]:
        """Search pixels as they lie: the nearest maximises x.y - |y|^2 / 2, an inner product with one more entry."""
        pixels = _centred(queries)
        asked = np.full((len(pixels), pixels.shape[1] + 1), math.sqrt(0.5), np.float32)
        asked[:, :-1] *= pixels
        found = self.plain.search_views(_both_ways(asked, pixels.shape[1] // 2), 1)
        squared = (pixels.astype(np.float64) ** 2).sum(axis=1) - 2 * found.scores[:, 0] * math.sqrt(2.0 * PLAIN_LENGTH)
        return 1 - squared.clip(0.0) * GREY**2 / PLAIN_RANGE, found.indices[:, 0]

    def _windows(self, queries: Grey) -> tuple[Floats, Scores]:
        """Cut every window of the template's size out of every size of the queries: (N, W, side * side), as templates.

        What each costs for being off the middle comes with it, (W,).
        """
        cut, cost = [], []
        for size in SIZES:
            if size >= self.side:
                views = np.lib.stride_tricks.sliding_window_view(resized(queries, size), (self.side,) * 2, (1, 2))
                cut.append(views.reshape(len(queries), -1, self.side, self.side))
                off = np.arange(views.shape[1]) - (views.shape[1] - 1) / 2
                cost.append(DISPLACEMENT * np.hypot(off[:, None], off).ravel())
        return _standardised(np.concatenate(cut, axis=1)), np.concatenate(cost)


def templates(images: Grey, max_shift: int) -> Floats:
    """Make of gallery images what copies are looked for among.

    Args:
        images: (G, R, R), 8-bit grey.
        max_shift: translation that is to be searched to either side along each axis, in thumbnail pixels (1/32 of the
            side); that much of the border is left out of the templates.

    Returns:
        (G, side * side) float32, `in_halves`: of pixels of zero mean and unit length, or all zeros; side = 32 - 2
        max_shift.

    Raises:
        InputError: when there are no images, they aren't square and 8-bit, or the shift leaves no middle.
    """
    if not 0 <= max_shift < THUMBNAIL // 2:
        raise InputError(f"near_copy_max_shift must be from 0 to {THUMBNAIL // 2 - 1}, not {max_shift}")
    if not len(images):
        raise InputError("near-copy search: the gallery is empty")
    middle = slice(max_shift, THUMBNAIL - max_shift)
    return _standardised(resized(_checked(images), THUMBNAIL)[:, middle, middle])


def plain_vectors(images: Grey) -> Floats:
    """Make of gallery images (G, R, R), 8-bit grey, what pixels are compared with as they lie.

    Returns:
        (G, 257) float32 rows of length 1 at most: the pixels y, `in_halves`, of length 1 at most, and -|y|^2 / 2, over
        the length that both together have at most.
    """
    pixels = _centred(_checked(images))
    half = -0.5 * np.square(pixels, dtype=np.float64).sum(axis=1, keepdims=True)
    return np.asarray(np.concatenate([pixels, half], axis=1) / math.sqrt(PLAIN_LENGTH), dtype=np.float32)


def _centred(images: Grey) -> Floats:
    """Return pixels (N, 256) about the middle of the grey range, so scaled that the farthest picture has length 1."""
    small = resized(images, PLAIN_SIDE).clip(0.0, 255.0)
    return in_halves((small - GREY) / (GREY * PLAIN_SIDE))


def _standardised(pictures: Floats) -> Floats:
    """Give pictures (..., S, S) zero mean and unit length, or zeros where they are flat: (..., S * S), `in_halves`."""
    return in_halves(unit(pictures.reshape(*pictures.shape[:-2], -1)).reshape(pictures.shape))


def _both_ways(vectors: Floats, odd: int) -> Floats:
    """Return vectors (N, D), and those of their mirror images: (N, 2, D)."""
    return np.stack([vectors, flipped(vectors, odd)], axis=1)


def resized(images: Grey, side: int) -> Floats:
    """Resize images (N, R, R) to (N, side, side) float32, antialiased."""
    pictures = (Image.fromarray(image.astype(np.float32)) for image in images)
    return np.stack([np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)) for picture in pictures])


def unit(vectors: Floats) -> Floats:
    """Give vectors (..., d) zero mean and unit length; a constant one becomes zeros."""
    centred = vectors - vectors.mean(axis=-1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.asarray(np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 1e-3))


def _checked(images: Grey) -> Grey:
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise InputError(f"near-copy search: expected uint8 images (N, R, R), got {images.dtype} {images.shape}")
    return images
