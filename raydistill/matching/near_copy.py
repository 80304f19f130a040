"""Structural near-copies: the same picture need not have the same embedding, and no network is asked.

The measure is template matching: the zero-mean normalised cross-correlation of a query's thumbnail with the middle of
a gallery thumbnail, at its best over small translations and one enlargement. It ignores brightness and contrast by
construction and is hardly moved by blur, noise and JPEG.

Source: normalised cross-correlation, Lewis, Fast Normalized Cross-Correlation, Vision Interface 1995; image pairs at a
distance below a threshold as copies, Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security
2023, section 4.
"""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from raydistill.core.errors import InputError
from raydistill.matching.search import ExactSearch, Places, Scores

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

THUMBNAIL = 32
"""Side of what is compared, in pixels: the cost of a pair doesn't depend on the resolution."""

ZOOMS = (1.0, 0.9)
"""Sizes at which a query is tried: as it is, and reduced, since a copy may have been cropped and enlarged."""

QUERIES_AT_ONCE = 64
"""Bounds memory, never changes a result."""


class StructureIndex:
    """Templates of every gallery image, searched exactly.

    Args:
        gallery: (G, side * side) float32, as `templates` makes them.
        device: as for `ExactSearch`.
    """

    def __init__(self, gallery: Floats, device: str = "cpu") -> None:
        self.side = math.isqrt(gallery.shape[1])
        self.exact = ExactSearch(gallery, device)

    def search(self, queries: Grey) -> tuple[Scores, Places]:
        """Find the gallery image that each query is most nearly a copy of.

        Args:
            queries: (N, R, R), 8-bit grey, of any resolution.

        Returns:
            Scores (N,) float64, correlations in [-1, 1] but for rounding, 1 for a copy, and gallery rows (N,) int64,
            the smallest among equal scores. A flat picture scores 0.

        Raises:
            InputError: when the queries aren't square and 8-bit.
        """
        scores, rows = np.empty(len(queries), dtype=np.float64), np.empty(len(queries), dtype=np.int64)
        for start in range(0, len(_checked(queries)), QUERIES_AT_ONCE):
            part = slice(start, start + QUERIES_AT_ONCE)
            scores[part], rows[part] = self._search(queries[part])
        return scores, rows

    def _search(self, queries: Grey) -> tuple[Scores, Places]:
        windows = self._windows(queries)
        best_of_each, _, rounding = self.exact.propose(windows.reshape(-1, self.side**2), 1)
        rough = best_of_each.reshape(len(queries), -1)
        # Only these can hold the best: they are searched again without rounding.
        owners, places = np.nonzero(rough + 2 * rounding >= rough.max(axis=1, keepdims=True))
        found = self.exact.search(windows[owners, places], 1)
        order = np.lexsort((found.indices[:, 0], -found.scores[:, 0], owners))
        best = order[np.searchsorted(owners, np.arange(len(queries)))]
        return found.scores[best, 0], found.indices[best, 0]

    def _windows(self, queries: Grey) -> Floats:
        """Cut every window of the template's size out of every size of the queries: (N, W, side * side), unit rows."""
        cut = []
        for size in sorted({round(THUMBNAIL * zoom) for zoom in ZOOMS}, reverse=True):
            if size >= self.side:
                views = np.lib.stride_tricks.sliding_window_view(resized(queries, size), (self.side,) * 2, (1, 2))
                cut.append(views.reshape(len(queries), -1, self.side**2))
        return unit(np.concatenate(cut, axis=1))


def templates(images: Grey, max_shift: int) -> Floats:
    """Make of gallery images what copies are looked for among.

    Args:
        images: (G, R, R), 8-bit grey.
        max_shift: translation that is to be searched to either side along each axis, in thumbnail pixels (1/32 of the
            side); that much of the border is left out of the templates.

    Returns:
        (G, side * side) float32 rows of zero mean and unit length, or all zeros, side = 32 - 2 max_shift.

    Raises:
        InputError: when there are no images, they aren't square and 8-bit, or the shift leaves no middle.
    """
    if not 0 <= max_shift < THUMBNAIL // 2:
        raise InputError(f"near_copy_max_shift must be from 0 to {THUMBNAIL // 2 - 1}, not {max_shift}")
    if not len(images):
        raise InputError("near-copy search: the gallery is empty")
    middle = slice(max_shift, THUMBNAIL - max_shift)
    return unit(resized(_checked(images), THUMBNAIL)[:, middle, middle].reshape(len(images), -1))


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
