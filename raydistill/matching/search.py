"""Exact nearest-neighbour search over the whole gallery: a missed neighbour is a privacy error."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from raydistill.core.errors import InputError
from raydistill.matching.mirror import either_way, flipped

Vectors = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

NORM_TOLERANCE = 1e-3
"""How far the length of an embedding may be from 1."""

SLACK = 8
"""Candidates fetched beyond k; ties and rounding seldom need more."""

ROWS_AT_ONCE = 1024
"""Queries searched at once; bounds memory, never changes a result."""

COMPARED_AT_ONCE = 1024
"""Rows that queries are compared with both ways at once; bounds memory, never changes a result."""

SCORED_AT_ONCE = 2**17
"""Products of numbers at once when candidates are scored: as many as a core's cache holds."""

GPU_FETCHES = 2048
"""Neighbours that FAISS can fetch on a GPU; ties among more are settled on the CPU."""


@dataclass(frozen=True)
class Neighbours:
    """The k best rows of every query.

    Attributes:
        scores: (N, k) float64 inner products, descending; of unit vectors cosine similarities, but for rounding.
        indices: (N, k) int64 rows; among equal scores the smallest row comes first.
    """

    scores: Scores
    indices: Places

    @property
    def cosines(self) -> Vectors:
        """The scores in single precision, in [-1, 1]."""
        return np.clip(self.scores, -1.0, 1.0).astype(np.float32)


class ExactSearch:
    """Vectors of length 1 at most, searched exactly by inner product. The array is used as it is, and not copied.

    FAISS (Douze et al., arXiv 2401.08281) proposes candidates by single-precision inner products; they are scored again
    in double precision, and more are fetched until none that was left out could belong to the best k. The result is
    thus that of a brute-force search, whatever the batch size, the thread count, the BLAS library or the device.

    Args:
        vectors: (G, D) float32, contiguous.
        device: where candidates are proposed; on `cuda` from half-precision copies, for which FAISS's GPU build is
            needed (the extra `gpu`).
    """

    def __init__(self, vectors: Vectors, device: str = "cpu") -> None:
        self.vectors, self.on_gpu = vectors, device != "cpu"
        if self.on_gpu:
            options = faiss.GpuIndexFlatConfig()
            options.useFloat16 = True
            self.index = faiss.GpuIndexFlatIP(_gpu(), vectors.shape[1], options)
            self.index.add(vectors)

    def search(self, queries: Vectors, k: int) -> Neighbours:
        """Find the k best rows of every query (N, D), float32 of length 1 at most; fewer where there are fewer."""
        width = min(k, len(self.vectors))
        scores = np.empty((len(queries), width), dtype=np.float64)
        indices = np.empty((len(queries), width), dtype=np.int64)
        for start in range(0, len(queries) if width else 0, ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            scores[part], indices[part] = self._search(queries[part], width, width + SLACK)
        return Neighbours(scores, indices)

    def search_views(self, views: Vectors, k: int) -> Neighbours:
        """Find the k best rows of queries of which there are several views (N, V, D); a row counts by its best view."""
        each = views.shape[1]
        found = self.search(views.reshape(-1, views.shape[2]), k)
        parts = [Neighbours(found.scores[view::each], found.indices[view::each]) for view in range(each)]
        return merged(parts, min(k, len(self.vectors)))

    def best_either_way(self, queries: Vectors, odd: int) -> tuple[Vectors, float]:
        """Score queries (N, D), as they are or mirrored, by their best row, but for rounding; and a bound on the error.

        Of mirror images the first `odd` numbers have the other sign.
        """
        if self.on_gpu:
            found = [self.propose(asked, 1)[0][:, 0] for asked in (queries, flipped(queries, odd))]
            return np.maximum(*found), self.rounding(half=True)
        best = np.full(len(queries), -np.inf, np.float32)
        for start in range(0, len(self.vectors), COMPARED_AT_ONCE):
            scores = either_way(queries, self.vectors[start : start + COMPARED_AT_ONCE], odd)
            np.maximum(best, scores.max(axis=1), out=best)
        return best, self.rounding(half=False)

    def propose(self, queries: Vectors, fetch: int) -> tuple[Vectors, Places, float]:
        """Find the rows (N, fetch) that are best but for rounding, their rounded scores, and a bound on those's error.

        `fetch` is G at most.
        """
        if self.on_gpu and fetch <= GPU_FETCHES:
            scores, rows = self.index.search(queries, fetch)
            return scores, rows, self.rounding(half=True)
        scores, rows = faiss.knn(queries, self.vectors, fetch, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, rows, self.rounding(half=False)

    def rounding(self, half: bool) -> float:
        """Bound on the error of a proposed score, from vectors stored in half or in single precision.

        In single precision that of an inner product of D terms, n u / (1 - n u). Half-precision storage changes a
        vector by 2^-11 of its length at most, and numbers under 2^-14 by 2^-25 each.

        Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, sections 2.1 and 3.1.
        """
        dimensions = int(self.vectors.shape[1])
        stored = 2.0**-11 + 2.0**-25 * dimensions**0.5 if half else 0.0
        return dimensions * float(np.finfo(np.float32).eps) + 2 * stored

    def _search(self, queries: Vectors, width: int, fetch: int) -> tuple[Scores, Places]:
        fetch = min(fetch, len(self.vectors))
        rough, candidates, rounding = self.propose(queries, fetch)
        scores, candidates = _best(self._score(queries, candidates), candidates, width)
        if fetch == len(self.vectors):
            return scores, candidates
        # What wasn't fetched scores roughly rough[:, -1] at most; only past the rounding error is it surely worse.
        doubtful = np.flatnonzero(rough[:, -1] + 2 * rounding >= scores[:, -1])
        if len(doubtful):
            redone = self._search(queries[doubtful], width, 4 * fetch)
            scores[doubtful], candidates[doubtful] = redone
        return scores, candidates

    def _score(self, queries: Vectors, candidates: Places) -> Scores:
        """Score candidates (N, C) in double precision, each row's products added up in the same order."""
        scores = np.empty(candidates.shape, dtype=np.float64)
        rows = max(1, SCORED_AT_ONCE // (candidates.shape[1] * self.vectors.shape[1]))
        for start in range(0, len(queries), rows):
            part = slice(start, start + rows)
            products = self.vectors[candidates[part]] * queries[part, None, :].astype(np.float64)
            scores[part] = products.sum(axis=2)
        return scores


@cache
def _gpu() -> Any:
    """Return a process's one share of scratch memory on its GPU: each of FAISS's takes a gigabyte and more."""
    return faiss.StandardGpuResources()


def merged(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """Return the best k of what was found in parts of one gallery, or by several views of the queries.

    That is what a search of the whole would have found. A row that was found several times counts once, by its best.

    Args:
        parts: `indices` being rows of the whole gallery; at least k different ones, or all there are.
        k: columns of the result, at most.
    """
    scores, indices = (
        np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("scores", "indices")
    )
    order = np.lexsort((-scores, indices), axis=1)
    scores, indices = (np.take_along_axis(values, order, axis=1) for values in (scores, indices))
    scores[:, 1:][indices[:, 1:] == indices[:, :-1]] = -np.inf
    return Neighbours(*_best(scores, indices, k))


def checked(vectors: Vectors, name: str) -> Vectors:
    """Return vectors as contiguous float32 after making sure that a cosine can be taken.

    Raises:
        InputError: when they aren't (N, D), not finite, or not of unit length.
    """
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise InputError(f"{name}: expected an array (N, D), got shape {vectors.shape}")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    # Not np.linalg.norm, which squares into an array of the same size.
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= NORM_TOLERANCE))
    if len(bad):
        raise InputError(
            f"{name}: {len(bad)} of {len(vectors)} embeddings aren't finite and of unit length (first: row {bad[0]}, "
            f"length {lengths[bad[0]]:.4g}); the network that made them may have diverged"
        )
    return vectors


def _best(scores: Scores, indices: Places, width: int) -> tuple[Scores, Places]:
    order = np.lexsort((indices, -scores), axis=1)[:, :width]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1)
