"""One function on one worker of the cluster."""

from collections.abc import Callable
from typing import Any, TypeVar

from raydistill.core.errors import NothingToDo, RaydistillError
from raydistill.core.progress import Progress
from raydistill.core.section import Compute
from raydistill.distributed.session import board, claims, root_cause

Outcome = TypeVar("Outcome")


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

    with board(progress) as news:
        task = ray.remote(_run).options(**claims(compute))
        try:
            outcome: Outcome = ray.get(task.remote(work, news, compute))
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, (RaydistillError, NothingToDo)):
                raise cause from error
            raise RaydistillError(f"a worker failed: {root_cause(error)}") from error
    return outcome


def _run(work: Callable[[Progress], Outcome], news: Any, compute: Compute) -> Outcome:
    import torch

    torch.set_num_threads(max(1, int(compute.num_cpus)))
    return work(lambda done, total, unit: news.post.remote(done, total, unit))
