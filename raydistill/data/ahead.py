"""Looking ahead: what is slow about an item is done in threads while the items before it are dealt with."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS, AHEAD = 8, 16
"""How many work at a time, and items that are read before their turn: bound memory, never change a result."""


def ahead(items: Iterable[T], function: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Yield every item with what a function makes of it, in the items' order.

    Args:
        items: are read here, by one thread.
        function: of an item alone; runs in other threads, several at once.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) >= AHEAD:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)


def _first(waiting: deque[tuple[T, Future[R]]]) -> tuple[T, R]:
    item, result = waiting.popleft()
    return item, result.result()
