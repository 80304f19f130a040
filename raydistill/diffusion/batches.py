"""Batches of one fixed shape, and what becomes of one that fails."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]
Finished = TypeVar("Finished")

FAILURES = (RuntimeError, ValueError, FloatingPointError)
"""What torch and the libraries on it raise when a batch can't be computed; running out of memory is among them."""

NOT_FINITE = "latents that aren't finite numbers"


@dataclass(frozen=True)
class Failure:
    """A row that could not be made, and why."""

    reason: str


UNMADE = Failure("not tried again yet")


def _batches(count: int, batch_size: int) -> Iterator[tuple[Rows, int]]:
    """Yield each batch's rows, the last one repeated up to the batch's size, and how many of them count."""
    for start in range(0, count, batch_size):
        yield np.minimum(np.arange(start, start + batch_size), count - 1), min(batch_size, count - start)


def in_batches(make: Callable[[Rows], NDArray[Any]], count: int, batch_size: int) -> NDArray[Any]:
    """Make `count` results batch by batch; `make` is given the rows of a batch, the last one repeated to fill it up."""
    return np.concatenate([make(rows)[:real] for rows, real in _batches(count, batch_size)])


def patiently(
    make: Callable[[Rows], Tensor],
    end: Callable[[Tensor, int], list[Finished | Failure]],
    count: int,
    batch_size: int,
) -> list[Finished | Failure]:
    """Make batches and end each on another thread; try those that fail again, row by row.

    Args:
        make: computes the batch of these rows.
        end: turns what was made into results, of which so many count.
        count: rows in all.
        batch_size: rows of a batch.

    Returns:
        A result or a failure for each row.

    Raises:
        RuntimeError, ValueError: what a row raised, when no row can be made, or none any more.
        FloatingPointError: when every one of several rows ends in what isn't a number.
    """
    pending: list[tuple[int, Future[list[Finished | Failure]] | None]] = []
    with ThreadPoolExecutor(1) as behind:
        for rows, real in _batches(count, batch_size):
            try:
                pending.append((real, behind.submit(end, make(rows), real)))
            except FAILURES:
                pending.append((real, None))
    results: list[Finished | Failure] = []
    for real, ended in pending:
        try:
            results += ended.result() if ended else [UNMADE] * real
        except FAILURES:
            results += [UNMADE] * real
    error: Exception | None = None
    for row in [row for row, result in enumerate(results) if result is UNMADE]:
        try:
            (results[row],) = end(make(np.full(batch_size, row)), 1)
        except FAILURES as failed:
            results[row], error = _failure(failed), failed
    if error:
        _make_sure(make, end, results, batch_size, error)
    reasons = [result.reason for result in results if isinstance(result, Failure)]
    if count > 1 and len(reasons) == count and set(reasons) == {NOT_FINITE}:
        raise FloatingPointError(f"every image ends in {NOT_FINITE}: has the model diverged, or is fp16 too narrow?")
    return results


def _make_sure(
    make: Callable[[Rows], Tensor],
    end: Callable[[Tensor, int], list[Finished | Failure]],
    results: Sequence[Finished | Failure],
    batch_size: int,
    error: Exception,
) -> None:
    """Raise the error again unless a row that could be made still can be; a single row is its own fault."""
    made = [row for row, result in enumerate(results) if not isinstance(result, Failure)]
    if len(results) == 1:
        return
    if not made:
        raise error
    try:
        end(make(np.full(batch_size, made[0])), 1)
    except FAILURES:
        raise error from None


def _failure(error: Exception) -> Failure:
    return Failure(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
