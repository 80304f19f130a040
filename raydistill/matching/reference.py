"""Real images to compare with, by name: galleries of embeddings and templates of structures, whole or in parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raydistill.core.errors import InputError
from raydistill.matching.near_copy import StructureIndex
from raydistill.matching.search import ExactSearch, Neighbours, Places, Vectors, checked, merged
from raydistill.matching.thumbnails import KINDS

MATCHED_PARTS = 8
"""Random pairs of equally made parts of two galleries; more would only smooth the matched scores."""


class Compared(Protocol):
    """What queries can be compared with; one method a kind of measure."""

    def nearest(self, name: str, queries: Vectors, k: int) -> Neighbours:
        """Find the k rows of a gallery that any view of a query is most similar to.

        Queries are (N, V, D), float32 of unit length: a picture as it is, and its mirror image.
        """

    def copied(self, name: str, images: NDArray[np.uint8]) -> Neighbours:
        """Find the one row of a structure that each image (N, R, R), mirrored or not, is most nearly a copy of."""

    def in_place(self, name: str, images: NDArray[np.uint8]) -> Neighbours:
        """Find the one row of a structure that correlates most with each image, mirrored or not, as it lies."""


@dataclass(frozen=True)
class Arrays:
    """What a reference is made of: arrays (rows, D) by name, float32, and which rows of the whole they are.

    Attributes:
        galleries: embeddings.
        structures: by a name with each of `thumbnails.KINDS` behind it what near-copies are looked for by.
        rows: by either's name row numbers of the whole, ascending; without them all from 0 on.
    """

    galleries: Mapping[str, Vectors]
    structures: Mapping[str, Vectors]
    rows: Mapping[str, Places]


class Reference:
    """Arrays that are searched exactly. A `Compared`.

    Args:
        arrays: used as they are, and not copied.
        device: as for `ExactSearch`.

    Raises:
        InputError: when an embedding isn't finite and of unit length.
    """

    def __init__(self, arrays: Arrays, device: str = "cpu") -> None:
        self.rows = arrays.rows
        self.galleries = {
            name: ExactSearch(checked(vectors, f"gallery {name}"), device)
            for name, vectors in arrays.galleries.items()
            if len(vectors)
        }
        known = arrays.structures
        self.structures = {
            name: StructureIndex({kind: known[f"{name}{kind}"] for kind in KINDS}, device)
            for name, rows in known.items()
            if len(rows) and all(f"{name}{kind}" in known for kind in KINDS)
        }

    def nearest(self, name: str, queries: Vectors, k: int) -> Neighbours:
        """Find the k rows of a gallery that any view of a query is most similar to; none where it has no rows.

        Raises:
            InputError: when a query isn't finite and of unit length, or has other dimensions than the gallery.
        """
        number, views, asked = queries.shape
        queries = checked(queries.reshape(-1, asked), "queries").reshape(number, views, asked)
        if name not in self.galleries:
            return _nothing(number)
        gallery = self.galleries[name]
        there = gallery.vectors.shape[1]
        if asked != there:
            raise InputError(f"queries have {asked} dimensions, the gallery {name} {there}: other networks made them")
        return self._of_whole(name, gallery.search_views(queries, k))

    def copied(self, name: str, images: NDArray[np.uint8]) -> Neighbours:
        """Find the one row of a structure that each image is most nearly a copy of; none where it has no rows."""
        if name not in self.structures:
            return _nothing(len(images))
        scores, rows = self.structures[name].search(images)
        return self._of_whole(name, Neighbours(scores[:, None], rows[:, None]))

    def in_place(self, name: str, images: NDArray[np.uint8]) -> Neighbours:
        """Find the one row of a structure that correlates most with each image as it lies; none where it has none."""
        if name not in self.structures:
            return _nothing(len(images))
        return self._of_whole(name, self.structures[name].in_place(images))

    def _of_whole(self, name: str, found: Neighbours) -> Neighbours:
        return Neighbours(found.scores, self.rows[name][found.indices]) if name in self.rows else found


class Parts:
    """Parts of a reference that live elsewhere, such as on other machines. A `Compared`.

    Args:
        ask: calls a method of every part with the same arguments, at once, and returns the answers.
    """

    def __init__(self, ask: Any) -> None:
        self.ask = ask

    def nearest(self, name: str, queries: Vectors, k: int) -> Neighbours:
        """Find the k rows of a gallery that any view of a query is most similar to."""
        return merged(self.ask("nearest", name, queries, k), k)

    def copied(self, name: str, images: NDArray[np.uint8]) -> Neighbours:
        """Find the one row of a structure that each image is most nearly a copy of."""
        return merged(self.ask("copied", name, images), 1)

    def in_place(self, name: str, images: NDArray[np.uint8]) -> Neighbours:
        """Find the one row of a structure that correlates most with each image as it lies."""
        return merged(self.ask("in_place", name, images), 1)


def _nothing(queries: int) -> Neighbours:
    return Neighbours(np.empty((queries, 0), np.float64), np.empty((queries, 0), np.int64))


def equally_made(first: NDArray[Any], second: NDArray[Any], rng: np.random.Generator) -> tuple[Places, Places]:
    """Choose parts of two galleries with equally many patients, and equally many images of each.

    As many patients as the smaller gallery has are drawn from both. The one with the most images of the one part is
    paired with that of the other, and so on; of a pair's images the smaller number is drawn from both. If neither
    gallery was learned by heart, the parts are exchangeable, and a stranger is as often closer to either.

    Args:
        first: patient ids, one an image.
        second: patient ids of the other gallery, none of the first.
        rng: where the choices come from.

    Returns:
        Sorted rows of the first and of the second gallery, int64, equally many.
    """
    people = [_by_number(ids, rng) for ids in (first, second)]
    size = min(map(len, people))
    chosen = [sorted(own[:size], key=len, reverse=True) for own in people]
    pairs = [(mine[: len(theirs)], theirs[: len(mine)]) for mine, theirs in zip(*chosen, strict=True)]
    ours, others = (np.sort(np.concatenate(side)).astype(np.int64) for side in zip(*pairs, strict=True))
    return ours, others


def _by_number(ids: NDArray[Any], rng: np.random.Generator) -> list[Places]:
    """Return every patient's rows, patients and rows in random order."""
    names, codes = np.unique(ids, return_inverse=True)
    order = rng.permutation(len(codes))
    # One stable sort instead of a search a patient: there may be many thousands.
    grouped = order[np.argsort(codes[order], kind="stable")]
    by_patient = np.split(grouped, np.cumsum(np.bincount(codes))[:-1])
    return [by_patient[patient] for patient in rng.permutation(len(names))]
