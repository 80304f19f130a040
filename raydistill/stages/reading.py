"""The rows of a source, read and decoded where the configuration says: by threads of the driver, or by workers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from raydistill.core.config import IngestConfig
from raydistill.data.ahead import ahead
from raydistill.data.rows import RawRow
from raydistill.data.sources import Source
from raydistill.data.sources.parts import Part, Parted, Parts, numbered
from raydistill.data.squares import square_of
from raydistill.distributed.in_order import in_order

PARTS_AT_A_TIME, ROWS_AT_A_TIME = 64, 8
"""What a worker takes: parts, of which it is told little more than the names, or rows with their images."""


def rows_of(source: Source, config: IngestConfig) -> Iterator[RawRow]:
    """Return a source's rows.

    Args:
        source: one that has parts is read by the workers, another here.
        config: with `compute`, rows come from workers with the squares in place of the images: the same, and no
            original is ever on the driver where the source has parts.

    Raises:
        RaydistillError: when the workers fail.
    """
    if config.compute is None:
        return source.rows()
    if isinstance(source, Parted):
        found, most = source.parts(), PARTS_AT_A_TIME
    else:
        found, most = Parts(source.rows(), _as_it_is), ROWS_AT_A_TIME
    work = partial(_read, partial(squared, found.read, config))
    return numbered(in_order(work, found.parts, config.compute, at_a_time=most))


def squared(read: Callable[[Part], list[RawRow]], config: IngestConfig, part: Part) -> list[RawRow]:
    """Read a part; squares take the place of the images."""
    return [
        raw if raw.problem or raw.image is None else replace(raw, image=square_of(raw, config)) for raw in read(part)
    ]


def _as_it_is(raw: RawRow) -> list[RawRow]:
    return [raw]


def _read(squared: Callable[[Part], list[RawRow]], parts: Sequence[Part]) -> list[list[RawRow]]:
    return [rows for _, rows in ahead(parts, squared)]
