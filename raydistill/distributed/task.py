"""A function on a worker of the cluster, or for each of several things on as many as there is room for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from raydistill.core.errors import NothingToDo, RaydistillError
from raydistill.core.progress import Progress
from raydistill.core.section import Compute
from raydistill.distributed.board import board
from raydistill.distributed.claims import claims, root_cause

Outcome = TypeVar("Outcome")
Item = TypeVar("Item")


def run_on_worker(work: Callable[[Progress], Outcome], compute: Compute, progress: Progress) -> Outcome:
    """Run one function on one worker of the cluster; a worker that is lost is replaced and the function runs again.

    Args:
        work: picklable, safe to run twice; given a `Progress` that reaches the driver.
        compute: size of the worker.
        progress: told what the function reports.

    Returns:
        What the function returned.

    Raises:
        RaydistillError: what the function raised, where it was raised on purpose; else the worker's failure in a line.
        NothingToDo: as the function raised it.
    """
    import ray

    with board(progress) as news, in_a_line():
        task = ray.remote(_run).options(**claims(compute))
        outcome: Outcome = ray.get(task.remote(work, news, compute))
    return outcome


def run_on_workers(
    work: Callable[[Any, Item], Outcome],
    shared: Any,
    items: Sequence[Item],
    compute: Compute,
    progress: Progress,
    unit: str,
) -> list[Outcome]:
    """Run a function for each of several items, on as many workers at a time as the cluster has room for.

    Args:
        work: picklable, safe to run twice; called with `shared` and an item.
        shared: read-only, put into the object store once.
        items: what to run it for.
        compute: size of a worker.
        progress: told how many are done.
        unit: what an item is to a reader.

    Returns:
        What the function returned, in the order of the items.

    Raises:
        RaydistillError, NothingToDo: as `run_on_worker`.
    """
    import ray

    with board(progress) as news, in_a_line():
        task, kept = ray.remote(_run_one).options(**claims(compute)), ray.put(shared)
        outcomes: list[Outcome] = ray.get([task.remote(work, kept, i, news, compute, len(items), unit) for i in items])
    return outcomes


@contextmanager
def in_a_line() -> Iterator[None]:
    """Turn a worker's failure into what was raised on purpose, or into one line."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, (RaydistillError, NothingToDo)):
            raise cause from error
        raise RaydistillError(f"a worker failed: {root_cause(error)}") from error


def _run(work: Callable[[Progress], Outcome], news: Any, compute: Compute) -> Outcome:
    import ray

    _threads(compute)
    told: list[Any] = []

    def tell(done: int, total: int, unit: str) -> None:
        told[:] = [news.post.remote(done, total, unit)]

    outcome = work(tell)
    # The driver looks a last time when it has the outcome: what was told must be there by then.
    ray.get(told)
    return outcome


def _run_one(
    work: Callable[[Any, Item], Outcome], shared: Any, item: Item, news: Any, compute: Compute, total: int, unit: str
) -> Outcome:
    import ray

    _threads(compute)
    outcome = work(shared, item)
    ray.get(news.add.remote(total, unit))  # before the driver looks a last time
    return outcome


def _threads(compute: Compute) -> None:
    import torch

    torch.set_num_threads(max(1, int(compute.num_cpus)))
