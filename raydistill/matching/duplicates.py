"""Near-duplicates in a cohort: one picture stored twice, found before a model sees it twice and learns it by heart.

The measure is that of `near_copy`, the zero-mean normalised cross-correlation at its best over placements. Two things
let it tell a copy from another visit of the same patient: placements lie half a pixel of 64 apart, since a copy that
falls between two of them scores like another visit; and both pictures are compared as means of areas, so that noise,
JPEG and blur count for little. Each is compared as it is and mirrored: of the frequencies that a mirror image changes
the sign of, every second one from left to right, the products count as positive (`mirror`).

The search is exact. What can't reach the threshold is known from a few placements, and a few of the lowest frequencies.
From a unit vector that lies at an angle α to a placement, no placement within an angle β of that one is less than
α - β away (the triangle inequality on the sphere). And for unit vectors with parts a, b of those frequencies and c, d
elsewhere the correlation is a·b + c·d, and c·d is at most |c| |d| (Cauchy-Schwarz).

Sources: duplicates drive memorisation, Somepalli et al., Understanding and Mitigating Copying in Diffusion Models,
NeurIPS 2023, and Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security 2023; the
correlation, Lewis, Fast Normalized Cross-Correlation, Vision Interface 1995; the few placements, farthest first,
Gonzalez, Clustering to Minimize the Maximum Intercluster Distance, Theoretical Computer Science 38, 1985.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

from raydistill.data.images import decode
from raydistill.matching.mirror import either_way
from raydistill.matching.thumbnails import Floats, resized, unit

SIDE = 64
"""Side that every picture is brought to, in pixels: the cost of a pair doesn't depend on the resolution."""

MARGIN = 2
"""Border of the earlier picture that isn't compared, in pixels: so far may a copy be shifted, or cut on every side."""

STEP = 0.5
"""Distance of neighbouring placements, in pixels."""

REACH = {0: 4, 1: 1, 2: 2, 3: 1, 4: 0}
"""Pixels that one of two pictures was cut by and enlarged again: how many steps off the middle it may then lie."""

MIDDLE = (2 * REACH[0] + 1) ** 2 // 2
"""The placement without shift or cut: the sizes come in the order of REACH, each row by row."""

CELLS = 12
"""Side of what is compared, in means of areas: measured, with the threshold, in docs/results.md."""

LOWEST_FIRST = np.add.outer(np.arange(CELLS) ** 2, np.arange(CELLS) ** 2).argsort(axis=None, kind="stable")
"""The frequencies, row by row, by their distance from the lowest."""

IS_ODD = LOWEST_FIRST % CELLS % 2 == 1
"""Of each of those, whether a mirror image has it with the other sign."""

ODD = CELLS**2 // 2
"""How many have: they come first in a vector, the lowest of them at the front, and then the others."""

CENTRES = 5
"""Placements that stand for all of them at first; more prune more and cost more. Never changes a result."""

LOW = 25
"""Frequencies that bound a correlation; more prune more and cost more. Never changes a result."""

KEPT_AT_ONCE = 4096
"""Bounds memory, never changes a result."""

ROUNDING = 1e-5
"""More than the error of a single-precision correlation of CELLS * CELLS numbers."""


@dataclass(frozen=True)
class NearDuplicate:
    """What a picture repeats.

    Attributes:
        of: row of an earlier picture, which repeats none itself.
        similarity: in [-1, 1], 1 for a copy.
    """

    of: int
    similarity: float


def near_duplicates(images: Collection[bytes], threshold: float) -> dict[int, NearDuplicate]:
    """Find the pictures that repeat an earlier one.

    A picture is kept, or repeats the kept one before it that is most similar: so no two kept pictures reach the
    threshold. N pictures take N**2 / 2 comparisons at most, of CENTRES placements and seldom of all 169, and 0.7 kB of
    memory each.

    Args:
        images: encoded 8-bit grey squares, in the order that decides which is kept.
        threshold: lowest similarity of a near-duplicate, in (0, 1].

    Returns:
        By row. A flat picture repeats nothing.

    Raises:
        BadImage: when one can't be decoded.
    """
    lines, found = _lines(), dict[int, NearDuplicate]()
    kept = _Kept(len(images))
    for row, image in enumerate(images):
        picture = resized(decode(image)[None], SIDE)[0]
        placed = _placed(picture, lines)
        nearest = kept.nearest(placed, threshold)
        if nearest is None:
            kept.add(row, placed[MIDDLE])
        else:
            found[row] = nearest
    return found


class _Kept:
    """The middles of the pictures that are kept, as unit vectors of frequencies."""

    def __init__(self, most: int) -> None:
        self.rows: list[int] = []
        self.middles = np.empty((most, CELLS**2), np.float32)
        self.bounds = np.empty((most, LOW + 1), np.float32)

    def add(self, row: int, middle: Floats) -> None:
        self.middles[len(self.rows)] = middle
        self.bounds[len(self.rows)] = _bounds(middle[None])[0]
        self.rows.append(row)

    def nearest(self, placed: Floats, threshold: float) -> NearDuplicate | None:
        """Find the most similar one, if it reaches the threshold."""
        centres, angle = _centres(placed)
        near = self._within(centres, math.cos(min(math.acos(threshold - ROUNDING) + angle, math.pi)))
        near = near[self._reached(placed, near) >= threshold - ROUNDING]
        scores = either_way(placed, self.middles[near], ODD).max(axis=0)
        if not len(near) or scores.max() < threshold:
            return None
        return NearDuplicate(self.rows[near[scores.argmax()]], min(float(scores.max()), 1.0))

    def _within(self, placed: Floats, threshold: float) -> npt.NDArray[np.int64]:
        """Return the places (M,) of those that may reach a threshold at one of the placements."""
        starts = range(0, len(self.rows), KEPT_AT_ONCE)
        parts = (np.arange(start, min(start + KEPT_AT_ONCE, len(self.rows))) for start in starts)
        near = [part[self._reached(placed, slice(part[0], part[-1] + 1)) >= threshold - ROUNDING] for part in parts]
        return np.concatenate([np.empty(0, np.int64), *near])

    def _reached(self, placed: Floats, of: slice | npt.NDArray[np.int64]) -> Floats:
        """Return a bound (M,) of what some of them reach at the best of the placements."""
        return np.asarray(either_way(_bounds(placed), self.bounds[of], _low_odd()).max(axis=0, initial=-1.0))


def _centres(placed: Floats) -> tuple[Floats, float]:
    """Take CENTRES of the placements, each the farthest from those before it, and the angle that all lie within."""
    chosen, near = [MIDDLE], placed @ placed[MIDDLE]
    while len(chosen) < CENTRES:
        chosen.append(int(near.argmin()))
        near = np.maximum(near, placed @ placed[chosen[-1]])
    return placed[chosen], math.acos(max(float(near.min()) - ROUNDING, -1.0))


def _bounds(vectors: Floats) -> Floats:
    """Make vectors (N, LOW + 1) whose products, either way, are nowhere below those of the unit vectors (N, CELLS**2).

    The first `_low_odd` of their numbers have the other sign in a mirror image.
    """
    odd = _low_odd()
    low_odd, high_odd, low_even, high_even = np.split(vectors, [odd, ODD, ODD + LOW - odd], axis=1)
    rest = np.linalg.norm(np.concatenate([high_odd, high_even], axis=1), axis=1, keepdims=True)
    return np.concatenate([low_odd, low_even, rest], axis=1)


def _low_odd() -> int:
    """How many of the LOW lowest frequencies a mirror image has with the other sign."""
    return int(IS_ODD[:LOW].sum())


def _placed(picture: Floats, lines: Sequence[Floats]) -> Floats:
    """Cut a picture (SIDE, SIDE) at every placement: (placements, CELLS * CELLS), unit vectors of frequencies.

    Placements lie alike to either side: those of the mirror image are these, mirrored.
    """
    cut = []
    for line in lines:
        steps = len(line) // CELLS
        grid = (line @ picture @ line.T).reshape(steps, CELLS, steps, CELLS)
        cut.append(grid.swapaxes(1, 2).reshape(-1, CELLS**2))
    cells = unit(np.concatenate(cut)).reshape(-1, CELLS, CELLS)
    order = np.concatenate([LOWEST_FIRST[IS_ODD], LOWEST_FIRST[~IS_ODD]])
    return np.asarray(dctn(cells, axes=(1, 2), norm="ortho").reshape(len(cells), -1)[:, order])


def _lines() -> list[Floats]:
    """Weigh the pixels of a line for its means at every placement: of one size each, (steps * CELLS, SIDE)."""
    sizes = [(SIDE / (SIDE - cropped), reach) for cropped, reach in REACH.items()]
    return [_line(size, reach) for zoom, reach in sizes for size in sorted({zoom, 1 / zoom})]


def _line(zoom: float, reach: int) -> Floats:
    length = (SIDE - 2 * MARGIN) * zoom
    starts = (SIDE - length) / 2 + STEP * np.arange(-reach, reach + 1)
    edges = starts[:, None] + length / CELLS * np.arange(CELLS + 1)
    pixels = np.arange(SIDE)
    covered = np.minimum(edges[:, 1:, None], pixels + 1) - np.maximum(edges[:, :-1, None], pixels)
    return np.asarray(covered.clip(0.0) * (CELLS / length), dtype=np.float32).reshape(-1, SIDE)
