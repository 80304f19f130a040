"""Hearing from workers while they work."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from raydistill.core.progress import Progress
from raydistill.distributed.claims import here

POLL_S = 0.5


class _Board:
    """An actor that keeps the last word of a running job."""

    def __init__(self) -> None:
        self.last: tuple[int, int, str] | None = None
        self.rows: list[Any] = []

    def post(self, done: int, total: int, unit: str) -> None:
        self.last = (done, total, unit)

    def add(self, total: int, unit: str) -> None:
        self.last = (1 + (self.last[0] if self.last else 0), total, unit)

    def tell(self, row: Any) -> None:
        self.rows.append(row)

    def read(self) -> tuple[tuple[int, int, str] | None, list[Any]]:
        return self.last, self.rows


@contextmanager
def board(progress: Progress, found: Callable[[list[Any]], None] | None = None) -> Iterator[Any]:
    """Give workers a handle through which they reach the driver.

    It has `post.remote(done, total, unit)`, `add.remote(total, unit)` for one more done, and `tell.remote(row)`.

    Args:
        progress: called on a thread of the driver, about twice a second while something changes.
        found: called there with all rows that were told, when there are more.

    Yields:
        A Ray actor handle; pass it to workers.
    """
    import ray

    actor = ray.remote(num_cpus=0, scheduling_strategy=here())(_Board).remote()
    stop = threading.Event()

    def poll() -> None:
        seen, told, over = None, 0, False
        while not over:
            over = stop.wait(POLL_S)
            try:
                last, rows = ray.get(actor.read.remote())
            except ray.exceptions.RayError:  # the job has its own way of saying that its cluster is gone
                return
            if last and last != seen:
                seen = last
                progress(*last)
            if found and len(rows) > told:
                told = len(rows)
                found(rows)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield actor
    finally:
        stop.set()
        thread.join()
        ray.kill(actor)
