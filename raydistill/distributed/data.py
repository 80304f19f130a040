"""Sharded map jobs on Ray Data: pieces of shards in, an actor pool, files out.

A finished piece is a file that appeared whole. The same job run again does only the pieces whose files are missing, and
a piece's rows never depend on who computed it.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.core.errors import RaydistillError
from raydistill.core.progress import Progress
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.distributed.claims import claims, here, root_cause
from raydistill.distributed.joining import Joining
from raydistill.distributed.shards import Piece, Shard, Shelf

PieceWork = Callable[[Piece], Sequence[pa.Table]]
"""Computes one piece: a table for each of the shard's files."""

MAX_DEATHS = 3
"""Workers that may die over one piece, as by running out of memory, before the piece is taken for the cause."""


UNIT = "images"


class _Deaths:
    """An actor that counts how often a piece was begun; one that is begun anew has cost a worker, or a node."""

    def __init__(self) -> None:
        self.begun: Counter[tuple[str, int]] = Counter()
        self.said = "are they short of memory?"

    def begin(self, shard: str, piece: int) -> tuple[int, str]:
        self.begun[shard, piece] += 1
        return self.begun[shard, piece] - 1, self.said

    def say(self, why: str) -> None:
        self.said = why

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
        import torch

        shard = self.shards[str(batch["shard"][0])]
        piece = shard.pieces[int(batch["piece"][0])]
        key = (piece.shard, piece.number)
        try:
            with self.computing:
                deaths, why = ray.get(self.deaths.begin.remote(*key))
                if deaths >= MAX_DEATHS:
                    raise RaydistillError(f"{deaths} workers have died over it: {why}")
                try:
                    tables = self.work(piece)
                except torch.AcceleratorError as error:
                    # Nothing computes on its device any more in this process; Ray starts another. No other piece is
                    # begun, which would be blamed for this.
                    ray.get(self.deaths.say.remote(_said(error)))
                    os._exit(1)
                # It killed nobody. What kills a worker while this is being written is another piece.
                ray.get(self.deaths.finish.remote(*key))
            self.shelf.put(shard, piece, tables)
        except Exception as error:  # whatever it is, the shard is to be named
            raise RuntimeError(f"{_name(piece)}: {_said(error)}") from error
        return {"shard": batch["shard"], "rows": np.array([piece.rows])}


def _name(piece: Piece) -> str:
    return f"{piece.shard}, rows {piece.first} to {piece.first + piece.rows - 1}"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def map_shards(
    make: Callable[..., PieceWork],
    arguments: dict[str, Any],
    shards: Sequence[Shard],
    *,
    out: Store,
    work: Store,
    compute: Compute,
    progress: Progress,
) -> None:
    """Make every shard that isn't there yet.

    Args:
        make: an importable class or function; called with `arguments` once on each actor.
        arguments: picklable; stores, configuration and references to Ray objects, not arrays.
        shards: all of them.
        out: where they lie in the end; one that is there is finished.
        work: scratch that survives a kill, for the pieces of unfinished shards.
        compute: size of the actor pool and of an actor.
        progress: told the rows done; a row is an image.

    Raises:
        RaydistillError: saying which rows of which shard can't be made and why, or naming a shard that is missing after
            the job.
    """
    import ray

    from raydistill.distributed.watch import Stalled

    while True:
        try:
            _make_missing(make, arguments, shards, Shelf(out, work), compute, progress)
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
    progress: Progress,
) -> None:
    missing = shelf.missing(shards)
    todo = [piece for pieces in missing.values() for piece in pieces]
    total = sum(sum(shard.rows) for shard in shards)
    done = total - sum(piece.rows for piece in todo)
    progress(done, total, UNIT)
    joining = Joining(shelf, {shard.name: (shard, len(pieces)) for shard, pieces in missing.items()}, compute)
    try:
        for piece in _computed(make, arguments, todo, list(missing), shelf, compute) if todo else ():
            done += piece["rows"]
            progress(done, total, UNIT)
            joining.count(piece["shard"])
    finally:
        # Also after a failure: the next attempt must not join what is still being joined.
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

    deaths = ray.remote(num_cpus=0, scheduling_strategy=here())(_Deaths).remote()
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
        compute=ray.data.ActorPoolStrategy(
            min_size=fewest, max_size=most, max_concurrent_calls_per_actor=2, enable_true_multi_threading=True
        ),
        **claims(compute),
    )
    made.context.custom_execution_callback_classes = [Watch]
    yield from made.iter_rows()
