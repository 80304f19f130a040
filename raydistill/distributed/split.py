"""A stream of rows through Ray Data and Ray Train's dataset shards: read while the workers learn, cut among them."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray import train as ray_train
from ray.data._internal.execution.execution_callback import ExecutionCallback

from raydistill.core.rows import Rows
from raydistill.core.store import Store
from raydistill.distributed.stream import Parts, Stream

NAME, POSITION = "rows", "position.json"
MAX_STEPS_PER_TASK, READERS_PER_WORKER = 64, 0.25

PAUSE_S = 0.05
"""Between two looks of Ray Data's at what there is to do; a record lasts for many steps."""


class Pause(ExecutionCallback):  # type: ignore[misc]
    """Keeps Ray Data's loop from asking again at once while nobody takes what was read, which costs a whole core."""

    def on_execution_step(self, executor: Any) -> None:
        """Wait a little after each look."""
        time.sleep(PAUSE_S)


class Split(ray_train.DataConfig):  # type: ignore[misc]
    """Cuts a stream among the workers that are there, from the step that the first of them has written down.

    Ray Train asks for it each time a group of workers starts, however many they are.

    Args:
        stream: what to read.
        steps: of the whole training.
        micros: micro-batches of a step, by the number of workers.
        work: where the position is.
        label_selector: of the workers' nodes: what they may read, others may not.
    """

    def __init__(
        self,
        stream: Stream,
        steps: int,
        micros: Callable[[int], int],
        work: Store,
        label_selector: Mapping[str, str] | None = None,
    ) -> None:
        """Split everything."""
        super().__init__()
        self.stream, self.steps, self.micros, self.work = stream, steps, micros, work
        self.claimed = {"label_selector": dict(label_selector)} if label_selector else {}

    def configure(self, datasets: Any, world_size: int, *_: Any, **__: Any) -> list[dict[str, Any]]:
        """Return each worker's iterator: record r of the stream is worker r % world_size's."""
        import ray

        parts = Parts(self.stream.batch_size, world_size, self.micros(world_size))
        first = self.work.read_json(POSITION)["step"]
        stride = min(max(1, self.stream.window_rows // self.stream.batch_size), MAX_STEPS_PER_TASK)
        chunks = [{"first": step, "last": min(step + stride, self.steps)} for step in range(first, self.steps, stride)]
        dataset = ray.data.from_items(chunks, override_num_blocks=len(chunks)).map_batches(
            self.stream.records,
            fn_kwargs={"parts": parts},
            batch_size=1,
            # A training may fill the cluster: its readers must not wait for a CPU of their own.
            num_cpus=0,
            concurrency=max(1, int(READERS_PER_WORKER * world_size)),
            **self.claimed,
        )
        # One record a block: blocks in order go to the workers in turn, so the order decides who gets what.
        dataset.context.target_max_block_size = 1
        dataset.context.execution_options.preserve_order = True
        dataset.context.custom_execution_callback_classes = [Pause]
        return [{NAME: split} for split in dataset.streaming_split(world_size, equal=True)]


def placeholder() -> Any:
    """Return what Ray Train wants as a dataset; `Split` makes the real one once the first step is known."""
    import ray

    return ray.data.range(1)


@dataclass(frozen=True)
class Alone:
    """The dataset shard of a training in one process: that process reads the stream, step by step.

    Args:
        stream: what to read.
        steps: of the whole training.
        micros: micro-batches of a step.
    """

    stream: Stream
    steps: int
    micros: int

    def iter_batches(self, **_: Any) -> Iterator[dict[str, Any]]:
        """Yield a record a step."""
        parts = Parts(self.stream.batch_size, 1, self.micros)
        for step in range(self.steps):
            yield from self.stream.records({"first": [step], "last": [step + 1]}, parts)


def received(first: int, rank: int, parts: Parts, work: Store) -> Iterator[Rows]:
    """Iterate over a worker's parts from a step on; every worker must call it.

    Raises:
        RuntimeError: when a record isn't the one that is due.
    """
    if rank == 0:
        work.write_json(POSITION, {"step": first})
    step = first
    for record in ray_train.get_dataset_shard(NAME).iter_batches(batch_size=1, batch_format="numpy"):
        got = int(record.pop("step")[0]), int(record.pop("rank")[0])
        if got != (step, rank):
            raise RuntimeError(f"worker {rank} at step {step} was given the rows of worker {got[1]} at step {got[0]}")
        for at in range(len(next(iter(record.values()))[0])):
            for micro, part in enumerate(parts.of(rank)):
                yield {name: column[0, at, micro, : part.stop - part.start] for name, column in record.items()}
            step += 1
