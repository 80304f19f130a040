"""Sharded map jobs on Ray Data: pieces of shards in, an actor pool, files out.

A finished piece is a file that appeared whole. The same job run again does only the pieces whose files are missing, and
a piece's rows never depend on who computed it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from raydistill.core.errors import NothingToDo, RaydistillError
from raydistill.core.progress import Progress
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.distributed.session import board, claims, root_cause
from raydistill.distributed.shards import Piece, Shard, Shelf

Outcome = TypeVar("Outcome")

PieceWork = Callable[[Piece], Sequence[pa.Table]]
"""Computes one piece: a table for each of the shard's files."""

MAX_DEATHS = 3
"""Workers that may die over one piece, as by running out of memory, before the piece is taken for the cause."""

JOINS_AT_ONCE = 2


class _Deaths:
    """An actor that counts how often a piece was begun; one that is begun anew has cost a worker, or a node."""

    def __init__(self) -> None:
        self.begun: Counter[tuple[str, int]] = Counter()

    def begin(self, shard: str, piece: int) -> int:
        self.begun[shard, piece] += 1
        return self.begun[shard, piece] - 1

    def finish(self, shard: str, piece: int) -> None:
        del self.begun[shard, piece]


class _Worker:
    """An actor of the pool: builds the work once (models, galleries), then computes pieces.

    It is called from two threads: while one writes its piece, the other computes the next.
    """

    def __init__(
        self,
        make: Callable[..., PieceWork],
        arguments: dict[str, Any],
        shards: dict[str, Shard],
        shelf: Shelf,
        deaths: Any,
        threads: int,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.work, self.shards, self.shelf, self.deaths = make(**arguments), shards, shelf, deaths
        self.computing = threading.Lock()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import ray

        shard = self.shards[str(batch["shard"][0])]
        piece = shard.pieces[int(batch["piece"][0])]
        key = (piece.shard, piece.number)
        try:
            with self.computing:
                deaths = ray.get(self.deaths.begin.remote(*key))
                if deaths >= MAX_DEATHS:
                    raise RaydistillError(f"{deaths} workers have died over it: are they short of memory?")
                tables = self.work(piece)
            self.shelf.put(shard, piece, tables)
        except Exception as error:  # whatever it is, the shard is to be named
            said = (str(error).splitlines() or [""])[0]
            raise RuntimeError(f"{_name(piece)}: {type(error).__name__}: {said}") from error
        ray.get(self.deaths.finish.remote(*key))
        return {"shard": batch["shard"], "rows": np.array([piece.rows])}


def _name(piece: Piece) -> str:
    return f"{piece.shard}, rows {piece.first} to {piece.first + piece.rows - 1}"


def map_shards(
    make: Callable[..., PieceWork],
    arguments: dict[str, Any],
    shards: Sequence[Shard],
    *,
    out: Store,
    work: Store,
    compute: Compute,
    progress: Progress,
    unit: str = "images",
) -> None:
    """Make every shard that isn't there yet.

    Args:
        make: an importable class or function; called with `arguments` once on each actor.
        arguments: picklable; stores, configuration and references to Ray objects, not arrays.
        shards: all of them.
        out: where they lie in the end; one that is there is finished.
        work: scratch that survives a kill, for the pieces of unfinished shards.
        compute: size of the actor pool and of an actor.
        progress: told the rows done.
        unit: what a row is.

    Raises:
        RaydistillError: saying which rows of which shard can't be made and why, or naming a shard that is missing after
            the job.
    """
    import ray

    from raydistill.distributed.watch import Stalled

    while True:
        try:
            shelf, told = Shelf(out, work), lambda done, total: progress(done, total, unit)
            _make_missing(make, arguments, shards, shelf, compute, told)
            break
        except Stalled:
            # Once more, with the nodes that are left; what is finished stays.
            continue
        except ray.exceptions.RayError as error:
            raise RaydistillError(f"{out.uri} can't be made: {root_cause(error)}") from error
    left = sorted({file for shard in shards for file in shard.files} - set(out.files()))
    if left:
        raise RaydistillError(f"{len(left)} shards were not made, the first is {(out / left[0]).uri}")


def _make_missing(
    make: Callable[..., PieceWork],
    arguments: dict[str, Any],
    shards: Sequence[Shard],
    shelf: Shelf,
    compute: Compute,
    progress: Callable[[int, int], None],
) -> None:
    missing = shelf.missing(shards)
    todo = [piece for pieces in missing.values() for piece in pieces]
    total = sum(sum(shard.rows) for shard in shards)
    done = total - sum(piece.rows for piece in todo)
    progress(done, total)
    joining = _Joining(shelf, {shard.name: (shard, len(pieces)) for shard, pieces in missing.items()})
    for piece in _computed(make, arguments, todo, list(missing), shelf, compute) if todo else ():
        done += piece["rows"]
        progress(done, total)
        joining.count(piece["shard"])
    joining.finish()


def _computed(
    make: Callable[..., PieceWork],
    arguments: dict[str, Any],
    todo: Sequence[Piece],
    shards: Sequence[Shard],
    shelf: Shelf,
    compute: Compute,
) -> Iterator[dict[str, Any]]:
    """Compute pieces on a pool; yield what each was, in the order in which they are finished."""
    import ray

    from raydistill.distributed.watch import Watch

    deaths = ray.remote(num_cpus=0)(_Deaths).remote()
    fewest, most = (min(workers, len(todo)) for workers in compute.workers)
    items = [{"shard": piece.shard, "piece": piece.number} for piece in todo]
    made = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Worker,
        fn_constructor_args=(
            make,
            arguments,
            {shard.name: shard for shard in shards},
            shelf,
            deaths,
            max(1, int(compute.num_cpus)),
        ),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=fewest, max_size=most, max_concurrent_calls_per_actor=2),
        **claims(compute),
    )
    made.context.custom_execution_callback_classes = [Watch]
    yield from made.iter_rows()


class _Joining:
    """Joins shards as their last piece comes in, on the cluster and a few at a time.

    Args:
        shelf: where the pieces are.
        missing: by name each unfinished shard and the number of its pieces that aren't there yet.
    """

    def __init__(self, shelf: Shelf, missing: dict[str, tuple[Shard, int]]) -> None:
        self.shelf, self.missing, self.running = shelf, missing, list[Any]()
        for name, (_, pieces) in missing.items():
            if not pieces:
                self._start(name)

    def count(self, name: str) -> None:
        """Take note of another finished piece."""
        shard, pieces = self.missing[name]
        self.missing[name] = shard, pieces - 1
        if pieces == 1 and len(shard.rows) > 1:
            self._start(name)

    def _start(self, name: str) -> None:
        import ray

        self._wait_for(JOINS_AT_ONCE - 1)
        # It waits for disks and networks more than it computes; the pool may hold every CPU.
        task = ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(Shelf.join)
        self.running.append(task.remote(self.shelf, self.missing[name][0]))

    def _wait_for(self, running: int) -> None:
        import ray

        while len(self.running) > running:
            finished, self.running = ray.wait(self.running)
            ray.get(finished)

    def finish(self) -> None:
        """Wait for what is being joined."""
        self._wait_for(0)


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
