"""Exact nearest-neighbour search over the whole gallery: a missed neighbour is a privacy error."""

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from raydistill.core.errors import InputError

Vectors = npt.NDArray[np.float32]

NORM_TOLERANCE = 1e-3
"""How far the length of an embedding may be from 1."""

SLACK = 8
"""Candidates fetched beyond k; ties and rounding seldom need more."""

ROWS_AT_ONCE = 1024
"""Queries searched at once; bounds memory, never changes a result."""


@dataclass(frozen=True)
class Neighbours:
    """The k best gallery rows of every query.

    Attributes:
        scores: (N, k) float32 cosine similarities in [-1, 1], descending.
        indices: (N, k) int64 gallery rows; among equal scores the smallest row comes first.
    """

    scores: Vectors
    indices: npt.NDArray[np.int64]


class Gallery:
    """Embeddings of every gallery image, searched exactly.

    FAISS (Douze et al., arXiv 2401.08281) proposes candidates from a flat inner-product index; they are scored again
    in double precision, and more are fetched until none that was left out could belong to the best k. The result is
    thus that of a brute-force search, whatever the batch size, the thread count or the BLAS library.

    Args:
        embeddings: (G, D) float32 rows of unit length.
        image_ids: G ids, unique.
        patient_ids: G ids.

    Raises:
        InputError: when an embedding isn't finite and of unit length, or the ids don't fit.
    """

    def __init__(self, embeddings: Vectors, image_ids: Sequence[str], patient_ids: Sequence[str]) -> None:
        self.embeddings = checked(embeddings, "gallery")
        self.image_ids, self.patient_ids = list(image_ids), list(patient_ids)
        if not len(embeddings) == len(self.image_ids) == len(self.patient_ids):
            raise InputError(
                f"gallery: {len(embeddings)} embeddings, {len(self.image_ids)} image ids and "
                f"{len(self.patient_ids)} patient ids; they must be as many"
            )
        if len(set(self.image_ids)) < len(self.image_ids):
            raise InputError("gallery: image ids aren't unique")
        self.index = faiss.IndexFlatIP(self.embeddings.shape[1])
        self.index.add(self.embeddings)

    def __len__(self) -> int:
        return len(self.image_ids)

    def search(self, queries: Vectors, k: int) -> Neighbours:
        """Find the k most similar gallery images of every query.

        Args:
            queries: (N, D) float32 rows of unit length.
            k: neighbours wanted; fewer come back when the gallery holds fewer.

        Returns:
            Neighbours of min(k, G) columns.

        Raises:
            InputError: when a query isn't finite and of unit length or has another D.
        """
        queries = checked(queries, "queries")
        if queries.shape[1] != self.embeddings.shape[1]:
            raise InputError(f"queries have {queries.shape[1]} dimensions, the gallery {self.embeddings.shape[1]}")
        width = min(k, len(self))
        scores = np.empty((len(queries), width), dtype=np.float32)
        indices = np.empty((len(queries), width), dtype=np.int64)
        for start in range(0, len(queries) if width else 0, ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            scores[part], indices[part] = self._search(queries[part], width, width + SLACK)
        return Neighbours(scores, indices)

    def _search(self, queries: Vectors, width: int, fetch: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
        fetch = min(fetch, len(self))
        rough, candidates = self.index.search(queries, fetch)
        scores = self._score(queries, candidates)
        scores, candidates = _best(scores, candidates, width)
        if fetch == len(self):
            return scores, candidates
        # What wasn't fetched scores roughly rough[:, -1] at most; only past the rounding error is it surely worse.
        doubtful = np.flatnonzero(rough[:, -1] + 2 * self._rounding() >= scores[:, -1])
        if len(doubtful):
            redone = self._search(queries[doubtful], width, 4 * fetch)
            scores[doubtful], candidates[doubtful] = redone
        return scores, candidates

    def _score(self, queries: Vectors, candidates: npt.NDArray[np.int64]) -> Vectors:
        """Score candidates (N, C) in double precision, one row at a time in the same order of additions."""
        scores = np.empty(candidates.shape, dtype=np.float32)
        for row, (query, columns) in enumerate(zip(queries.astype(np.float64), candidates, strict=True)):
            scores[row] = (self.embeddings[columns] * query).sum(axis=1)
        return np.clip(scores, -1.0, 1.0)

    def _rounding(self) -> float:
        """Bound the error of a single-precision inner product of unit vectors.

        Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, section 3.1: n u / (1 - n u).
        """
        return int(self.embeddings.shape[1]) * float(np.finfo(np.float32).eps)


def checked(vectors: Vectors, name: str) -> Vectors:
    """Return vectors as contiguous float32 after making sure that a cosine can be taken.

    Raises:
        InputError: when they aren't (N, D), not finite, or not of unit length.
    """
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise InputError(f"{name}: expected an array (N, D), got shape {vectors.shape}")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= NORM_TOLERANCE))
    if len(bad):
        raise InputError(
            f"{name}: {len(bad)} of {len(vectors)} embeddings aren't finite and of unit length (first: row {bad[0]}, "
            f"length {lengths[bad[0]]:.4g}); the network that made them may have diverged"
        )
    return vectors


def _best(scores: Vectors, indices: npt.NDArray[np.int64], width: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
    order = np.lexsort((indices, -scores), axis=1)[:, :width]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1)
