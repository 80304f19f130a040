"""Shards, the few even files that an artifact's rows lie in, and the pieces of them that work is done and lost by.

A finished piece is a file that appeared whole. When all pieces of a shard are there they are joined, each becoming one
row group, and go. So a kill costs the pieces in hand, however large a shard is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from raydistill.core.store import Store


@dataclass(frozen=True)
class Piece:
    """A run of a shard's rows.

    Attributes:
        shard: name of the shard.
        number: of the piece in its shard; also of the row group that it becomes.
        first: number of its first row.
        rows: how many it has.
    """

    shard: str
    number: int
    first: int
    rows: int


@dataclass(frozen=True)
class Shard:
    """An output file, or several with the same rows, and what it is made of.

    Attributes:
        name: unlike any other shard's, such as `part-00003.parquet`; its file, where none are given.
        rows: of each piece.
        first: number of its first row, for work that counts rows over all shards.
        others: the files, where they are others than its name: a table of each piece's each.
    """

    name: str
    rows: tuple[int, ...]
    first: int = 0
    others: tuple[str, ...] = ()

    @property
    def pieces(self) -> list[Piece]:
        """Its pieces, in order."""
        firsts = (self.first + sum(self.rows[:number]) for number in range(len(self.rows)))
        return [Piece(self.name, *piece) for piece in zip(range(len(self.rows)), firsts, self.rows, strict=True)]

    @property
    def files(self) -> tuple[str, ...]:
        """The files it becomes."""
        return self.others or (self.name,)


def cut(rows: int, rows_per_shard: int, rows_per_piece: int, first: int = 0) -> list[Shard]:
    """Cut rows into as few shards as that takes, equally large but for a piece, and those into pieces.

    Args:
        rows: how many.
        rows_per_shard: at most.
        rows_per_piece: but for the last piece of a shard.
        first: number of the first row.

    Example:
        >>> [(shard.name, shard.first, shard.rows) for shard in cut(300, 200, 100)]
        [('part-00000.parquet', 0, (100, 100)), ('part-00001.parquet', 200, (100,))]
    """
    rows_per_piece = min(rows_per_piece, rows_per_shard)
    pieces = -(-rows // rows_per_piece)
    count = -(-pieces // (rows_per_shard // rows_per_piece))
    shards, start = [], 0
    for number in range(count):
        stop = min(rows, rows_per_piece * (pieces * (number + 1) // count) if number + 1 < count else rows)
        of_pieces = tuple(min(rows_per_piece, stop - at) for at in range(start, stop, rows_per_piece))
        shards.append(Shard(f"part-{number:05d}.parquet", of_pieces, first + start))
        start = stop
    return shards


class Shelf:
    """Where shards end up, and their pieces until then.

    Args:
        out: where the shards lie in the end.
        work: scratch that survives a kill.
    """

    def __init__(self, out: Store, work: Store) -> None:
        self.out, self.work = out, work / "pieces"

    def missing(self, shards: Iterable[Shard]) -> dict[Shard, list[Piece]]:
        """Return the shards that aren't whole yet, with the pieces that must still be made; there may be none."""
        whole, made = set(self.out.files()), set(self.work.files())
        unfinished = [shard for shard in shards if not whole.issuperset(shard.files)]
        return {
            shard: [p for p in shard.pieces if len(shard.rows) == 1 or not made.issuperset(_files(shard, p))]
            for shard in unfinished
        }

    def put(self, shard: Shard, piece: Piece, tables: Sequence[pa.Table]) -> None:
        """Write a piece, a table a file; of a shard with no other piece, the shard."""
        alone = len(shard.rows) == 1
        names, store = (shard.files, self.out) if alone else (_files(shard, piece), self.work)
        for name, table in zip(names, tables, strict=True):
            store.write_table(name, table)

    def join(self, shard: Shard) -> None:
        """Write a shard whose pieces are all there; the pieces go. Done twice, the second time does nothing."""
        files = [_files(shard, piece) for piece in shard.pieces]
        try:
            for number, path in enumerate(shard.files):
                if not self._is_whole(shard):
                    self.out.write_tables(path, (self.work.read_table(of_piece[number]) for of_piece in files))
        except FileNotFoundError:
            # Somebody else, of an attempt that was killed, has joined it meanwhile.
            if not self._is_whole(shard):
                raise
        for path in shard.files:
            self.work.delete(path)

    def _is_whole(self, shard: Shard) -> bool:
        return all(self.out.is_file(file) for file in shard.files)


def _files(shard: Shard, piece: Piece) -> tuple[str, ...]:
    return tuple(f"{file}/{piece.number:05d}.parquet" for file in shard.files)
