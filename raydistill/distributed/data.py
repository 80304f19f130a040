"""Sharded map jobs on Ray Data: one input shard, one output shard, an actor pool between them.

A finished shard is a file that appeared whole. The same job run again does only the shards whose files are missing,
so a kill costs at most the shards in flight, and a shard's rows never depend on who computed it.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from raydistill.core.errors import NothingToDo, RaydistillError
from raydistill.core.progress import Progress
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.distributed.session import board, root_cause

Outcome = TypeVar("Outcome")

ShardWork = Callable[[str], int]
"""Makes one output shard by name, writes it, and returns how many rows it has."""


class _Worker:
    """An actor of the pool: builds the work once (models, galleries), then makes shards."""

    def __init__(self, make: Callable[..., ShardWork], arguments: dict[str, Any], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.work = make(**arguments)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [str(name) for name in batch["shard"]]
        return {"shard": np.array(names), "rows": np.array([self.work(name) for name in names])}


def map_shards(
    make: Callable[..., ShardWork],
    arguments: dict[str, Any],
    shards: Sequence[str],
    *,
    done_in: Store,
    compute: Compute,
    progress: Progress,
) -> None:
    """Make every shard that isn't there yet.

    Args:
        make: an importable class or function; called with `arguments` once on each actor.
        arguments: picklable; stores and configuration, not arrays.
        shards: names of all output shards, such as `part-00000.parquet`.
        done_in: the folder the work writes to; a name that exists there is finished.
        compute: size of the actor pool and of an actor.
        progress: told the shards done.

    Raises:
        RaydistillError: saying why a shard can't be made, or naming the one that is missing after the job.
    """
    import ray

    finished = set(done_in.files())
    missing = [name for name in shards if name not in finished]
    progress(len(shards) - len(missing), len(shards), "shards")
    if missing:
        dataset = ray.data.from_items([{"shard": name} for name in missing], override_num_blocks=len(missing))
        fewest, most = (min(workers, len(missing)) for workers in compute.workers)
        made = dataset.map_batches(
            _Worker,
            fn_constructor_args=(make, arguments, max(1, int(compute.num_cpus))),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=fewest, max_size=most),
            num_cpus=compute.num_cpus,
            num_gpus=compute.num_gpus or None,
        )
        try:
            for count, _ in enumerate(made.iter_rows(), start=len(shards) - len(missing) + 1):
                progress(count, len(shards), "shards")
        except ray.exceptions.RayError as error:
            raise RaydistillError(f"a shard of {done_in.uri} can't be made: {root_cause(error)}") from error
    left = sorted(set(shards) - set(done_in.files()))
    if left:
        raise RaydistillError(f"{len(left)} shards were not made, the first is {(done_in / left[0]).uri}")


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
        task = ray.remote(_run).options(num_cpus=compute.num_cpus, num_gpus=compute.num_gpus or None)
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


def shard_names(rows: int, rows_per_shard: int) -> list[str]:
    """Name the shards that hold a number of rows.

    Example:
        >>> shard_names(300, 128)
        ['part-00000.parquet', 'part-00001.parquet', 'part-00002.parquet']
    """
    return [f"part-{i:05d}.parquet" for i in range(-(-rows // rows_per_shard))]
