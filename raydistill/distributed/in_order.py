"""A function of many small things on several workers of the cluster, its answers in the things' order as they come.

Tasks, and no data set of Ray Data: what comes next is told one by one, by a source that nobody wants to hold whole.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from raydistill.core.section import Compute
from raydistill.distributed.claims import claims
from raydistill.distributed.task import in_a_line

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

AHEAD = 4
"""Batches for each worker that may be done, or in hand, before their turn: bounds memory, never changes a result."""


def in_order(
    work: Callable[[Sequence[Item]], list[Outcome]], items: Iterable[Item], compute: Compute, *, at_a_time: int
) -> Iterator[Outcome]:
    """Yield what a function makes of items; a worker that is lost is replaced and its batch begun again.

    Args:
        work: picklable, safe to run twice; makes an outcome of each item of a batch, in order.
        items: picklable; are told here, a few batches ahead of what is yielded.
        compute: the most workers, and the size of one.
        at_a_time: items of a batch.

    Raises:
        RaydistillError: as `run_on_worker`.
    """
    import ray

    task, kept = ray.remote(_run).options(**claims(compute)), ray.put(work)
    batches, most = _batches(items, at_a_time), compute.max_workers
    waiting, running = deque[Any](), set[Any]()
    with in_a_line():
        try:
            while True:
                while len(running) < most and len(waiting) < AHEAD * most and (batch := next(batches, None)):
                    waiting.append(task.remote(kept, batch))
                    running.add(waiting[-1])
                if not waiting:
                    return
                if waiting[0] in running:
                    running.difference_update(ray.wait(list(running))[0])
                else:
                    yield from ray.get(waiting.popleft())
        finally:
            for reference in running:
                ray.cancel(reference)


def _batches(items: Iterable[Item], at_a_time: int) -> Iterator[list[Item]]:
    items = iter(items)
    while batch := list(islice(items, at_a_time)):
        yield batch


def _run(work: Callable[[Sequence[Item]], list[Outcome]], batch: Sequence[Item]) -> list[Outcome]:
    return work(batch)
