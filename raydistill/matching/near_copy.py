"""Near-copies: the same picture need not have the same embedding, and no network is asked.

Three measures, and the best of them counts. *Placed*: template matching, the zero-mean normalised cross-correlation of
a query's thumbnail with the middle of a gallery thumbnail, at its best over small translations and reductions, less a
little for each pixel of displacement. It ignores brightness and contrast by construction and is hardly moved by blur,
noise and JPEG. *Plain*: how far the pixels are from those of the gallery image, as they lie. A model that returns from
noise to a picture it knows keeps place and exposure, which strangers share too seldom for a free placement to match.
*Detail*: correlation, in place, of what is left of a thumbnail when its own blur is taken off. The farther a model
starts in the noise the more of exposure and outline it makes up anew; small structures that it knows by heart stay.
All compare the query and its mirror image: a model that learned from mirrored images too makes mirrored copies.

Source: normalised cross-correlation, Lewis, Fast Normalized Cross-Correlation, Vision Interface 1995; image pairs at a
distance below a threshold as copies, Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security
2023, section 4. The constants that weigh one against the other were chosen on planted copies of NIH radiographs;
docs/results.md has what they find.
"""

import math
from collections.abc import Mapping

import numpy as np

from raydistill.matching.mirror import flipped
from raydistill.matching.search import ExactSearch, Neighbours, Places, Scores, merged
from raydistill.matching.thumbnails import (
    GREY,
    KINDS,
    PLAIN_LENGTH,
    THUMBNAIL,
    Floats,
    Grey,
    centred,
    checked,
    compared_by,
    detail_vectors,
    resized,
    standardised,
    templates,
)

SIZES = (32, 30, 29, 28)
"""Sides at which a query is tried, in pixels: as it is, and reduced, for a copy may have been cropped and enlarged."""

DISPLACEMENT = 0.005
"""What a pixel off the middle costs a placement, in units of the correlation."""

PLAIN_RANGE = 0.14 * 255**2
"""Mean squared difference, in squared grey levels, that takes a similarity from 1 to 0: at about the same similarity
as many strangers are found by any measure."""

DETAIL_WEIGHT = 0.14
"""What a correlation of details that is 1 too small costs: at about the same similarity as many strangers are found."""

QUERIES_AT_ONCE = 64
"""Bounds memory, never changes a result."""


class StructureIndex:
    """Every gallery image, searched exactly by every measure.

    Args:
        gallery: as `thumbnails.compared_by` makes it.
        device: as for `ExactSearch`.
    """

    def __init__(self, gallery: Mapping[str, Floats], device: str = "cpu") -> None:
        self.side = math.isqrt(gallery[""].shape[1])
        self.placed, self.plain, self.detail = (ExactSearch(gallery[kind], device) for kind in KINDS)

    @classmethod
    def of(cls, images: Grey, max_shift: int) -> "StructureIndex":
        """Index images (G, R, R); arguments as for `thumbnails.templates`."""
        return cls(compared_by(images, max_shift))

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
        for start in range(0, len(checked(queries)), QUERIES_AT_ONCE):
            part = slice(start, start + QUERIES_AT_ONCE)
            measures = self._placed(queries[part]), self._plain(queries[part]), self._detailed(queries[part])
            best = merged([Neighbours(found[:, None], where[:, None]) for found, where in measures], 1)
            scores[part], rows[part] = best.scores[:, 0], best.indices[:, 0]
        return scores, rows

    def in_place(self, queries: Grey) -> Neighbours:
        """Find the gallery image whose middle correlates most with each query's, or its mirror image's, as they lie.

        No measure of a search: who looks for copies otherwise has something to be compared with.

        Args:
            queries: (N, R, R), 8-bit grey, of any resolution.

        Source: correlation of pixels as the sign of a copy, Dar et al., arXiv 2402.01054.
        """
        shift = (THUMBNAIL - self.side) // 2
        return self.placed.search_views(_both_ways(templates(queries, shift), self.side**2 // 2), 1)

    def _placed(self, queries: Grey) -> tuple[Scores, Places]:
        windows, cost = self._windows(queries)
        odd = self.side**2 // 2
        # Placements lie alike to either side: those of the mirror image are these, mirrored.
        best_of_each, rounding = self.placed.best_either_way(windows.reshape(-1, self.side**2), odd)
        rough = best_of_each.reshape(len(queries), -1) - cost
        # Only these can hold the best: they are searched again without rounding.
        owners, places = np.nonzero(rough + 2 * rounding >= rough.max(axis=1, keepdims=True))
        found = self.placed.search_views(_both_ways(windows[owners, places], odd), 1)
        scores = found.scores[:, 0] - cost[places]
        order = np.lexsort((found.indices[:, 0], -scores, owners))
        best = order[np.searchsorted(owners, np.arange(len(queries)))]
        return scores[best], found.indices[best, 0]

    def _plain(self, queries: Grey) -> tuple[Scores, Places]:
        """Search pixels as they lie: the nearest maximises x.y - |y|^2 / 2, an inner product with one more entry."""
        pixels = centred(queries)
        asked = np.full((len(pixels), pixels.shape[1] + 1), math.sqrt(0.5), np.float32)
        asked[:, :-1] *= pixels
        found = self.plain.search_views(_both_ways(asked, pixels.shape[1] // 2), 1)
        squared = (pixels.astype(np.float64) ** 2).sum(axis=1) - 2 * found.scores[:, 0] * math.sqrt(2.0 * PLAIN_LENGTH)
        return 1 - squared.clip(0.0) * GREY**2 / PLAIN_RANGE, found.indices[:, 0]

    def _detailed(self, queries: Grey) -> tuple[Scores, Places]:
        details = detail_vectors(queries)
        found = self.detail.search_views(_both_ways(details, details.shape[1] // 2), 1)
        return 1 - DETAIL_WEIGHT * (1 - found.scores[:, 0]), found.indices[:, 0]

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
        return standardised(np.concatenate(cut, axis=1)), np.concatenate(cost)


def _both_ways(vectors: Floats, odd: int) -> Floats:
    """Return vectors (N, D), and those of their mirror images: (N, 2, D)."""
    return np.stack([vectors, flipped(vectors, odd)], axis=1)
