"""Rows of a training in a seeded order, and how a batch of them is cut among workers.

The order is a function of the seed alone: shards in random order, rows in random order within a window of several
shards. Position p of that endless order belongs to step p // batch_size, whoever trains and wherever a run goes on,
so the step counter is the only position there is. No process holds more than two windows, and the rows it gives.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.core.rows import Rows
from raydistill.core.seeds import generator


@dataclass(frozen=True)
class Parts:
    """How a global batch of some rows is cut: worker r of n takes part `micro * n + r` in its micro-batch `micro`.

    Parts differ by one row at most, so any number of workers can share any batch that has a row for each part.
    """

    rows: int
    workers: int
    accumulation: int

    @property
    def count(self) -> int:
        """Parts of a batch."""
        return self.workers * self.accumulation

    @property
    def width(self) -> int:
        """Rows of the largest part."""
        return -(-self.rows // self.count)

    def part(self, number: int) -> slice:
        """Positions of a part in the batch."""
        return slice(number * self.rows // self.count, (number + 1) * self.rows // self.count)

    def of(self, rank: int) -> list[slice]:
        """The parts of one worker, in the order of its micro-batches."""
        return [self.part(micro * self.workers + rank) for micro in range(self.accumulation)]

    def weight(self, part: slice) -> float:
        """What the mean over a part counts in the mean over all parts, so that it is the mean over all rows."""
        return float((part.stop - part.start) * self.count / self.rows)


@dataclass(frozen=True)
class Stream:
    """An endless, shuffled sequence of rows.

    Args:
        shards: name and number of rows of each.
        read: gives the rows of a shard by its name; a pure function, importable by workers.
        batch_size: rows of a step.
        seed: of the order.
        window_rows: rows are shuffled within windows of about as many.
    """

    shards: tuple[tuple[str, int], ...]
    read: Callable[[str], Rows]
    batch_size: int
    seed: int
    window_rows: int = 8192

    def __len__(self) -> int:
        """Rows of an epoch."""
        return sum(rows for _, rows in self.shards)

    def rows(self, first: int, last: int) -> Rows:
        """Return the rows at positions `first` to before `last`, column by column."""
        pieces = []
        for epoch in range(first // len(self), (last - 1) // len(self) + 1):
            start = epoch * len(self)
            for number, names in enumerate(self._windows(epoch)):
                length = sum(rows for _, rows in names)
                inside = slice(max(0, first - start), min(length, last - start))
                if inside.start < inside.stop:
                    pieces.append(self._window(epoch, number, names, inside))
                start += length
        return _joined(pieces)

    def _windows(self, epoch: int) -> list[list[tuple[str, int]]]:
        windows: list[list[tuple[str, int]]] = [[]]
        filled = 0
        for place in generator(self.seed, "shards", epoch).permutation(len(self.shards)):
            if filled >= self.window_rows:
                windows.append([])
                filled = 0
            windows[-1].append(self.shards[place])
            filled += self.shards[place][1]
        return windows

    def _window(self, epoch: int, number: int, names: list[tuple[str, int]], inside: slice) -> Rows:
        rows = _read_all(self.read, tuple(sorted(name for name, _ in names)))
        order = generator(self.seed, "window", epoch, number).permutation(sum(count for _, count in names))
        return {name: column[order[inside]] for name, column in rows.items()}

    def records(self, chunk: Mapping[str, Any], parts: Parts) -> Iterator[dict[str, NDArray[Any]]]:
        """Read a few steps; yield one record a worker, with all its parts of these steps, (1, steps, micro, width, …).

        Parts are as wide as the widest; repeated rows fill what is missing.
        """
        first, last = int(chunk["first"][0]), int(chunk["last"][0])
        rows = self.rows(first * self.batch_size, last * self.batch_size)
        steps = np.arange(last - first)[:, None, None] * self.batch_size
        for rank in range(parts.workers):
            inside = np.array([[part.start, part.stop] for part in parts.of(rank)])
            places = np.minimum(inside[:, :1] + np.arange(parts.width), inside[:, 1:] - 1) + steps
            record = {name: column[places][None] for name, column in rows.items()}
            yield record | {"step": np.array([first]), "rank": np.array([rank])}


def _joined(pieces: list[Rows]) -> Rows:
    return pieces[0] if len(pieces) == 1 else {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}


@lru_cache(maxsize=2)
def _read_all(read: Callable[[str], Rows], names: tuple[str, ...]) -> Rows:
    """Read a window. Two are remembered: steps may lie across their border, and a small set is one window."""
    return _joined([read(name) for name in names])


def ahead(rows: Iterator[Rows]) -> Iterator[Rows]:
    """Start on the first rows at once, on a thread, and give all of them in their order."""
    thread = ThreadPoolExecutor(max_workers=1)
    first = thread.submit(next, rows)
    thread.shutdown(wait=False)

    def all_of_them() -> Iterator[Rows]:
        yield first.result()
        yield from rows

    return all_of_them()
