"""A source in parts: what is quickly told of its rows, in order, and what is slow and can be done anywhere."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, Protocol, runtime_checkable

from raydistill.core.store import Store
from raydistill.data.ahead import ahead
from raydistill.data.rows import RawRow
from raydistill.data.sources.files import with_file

Part = Any
"""What tells a part of a source from the others, such as the path of a file; picklable."""


@dataclass(frozen=True)
class Parts:
    """The parts of a source.

    Args:
        parts: in the order of the source; told one by one, by one thread of one process.
        read: makes a part's rows, their images with them, whatever their numbers; picklable, and of the part alone.
    """

    parts: Iterable[Part]
    read: Callable[[Part], list[RawRow]]

    def rows(self) -> Iterator[RawRow]:
        """Yield all rows, in order; several parts are read at a time."""
        return numbered(found for _, found in ahead(self.parts, self.read))


@runtime_checkable
class Parted(Protocol):
    """A source whose parts can be read by several workers."""

    def parts(self) -> Parts:
        """Return its parts, whose rows are those that `rows` yields."""


def numbered(found: Iterable[list[RawRow]]) -> Iterator[RawRow]:
    """Number rows from 0."""
    numbers = count()
    for rows in found:
        yield from (replace(raw, row=next(numbers)) for raw in rows)


def parts_of_files(named: Iterable[tuple[RawRow, Any]], folder: Store) -> Parts:
    """Return rows that name their images as parts.

    Args:
        named: a row, and a path below the folder, or None.
        folder: where the images are.
    """
    return Parts(named, partial(_named, folder=folder))


def _named(named: tuple[RawRow, Any], folder: Store) -> list[RawRow]:
    return [with_file(*named, folder)]
