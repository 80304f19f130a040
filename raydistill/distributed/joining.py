"""Putting pieces together to shards while others are still being computed."""

from typing import Any

from raydistill.core.section import Compute
from raydistill.distributed.claims import here
from raydistill.distributed.shards import Shard, Shelf

JOINS_AT_ONCE = 2


class Joining:
    """Joins shards as their last piece comes in, on the cluster and a few at a time.

    Args:
        shelf: where the pieces are.
        missing: by name each unfinished shard and the number of its pieces that aren't there yet.
        compute: of those who compute them.
    """

    def __init__(self, shelf: Shelf, missing: dict[str, tuple[Shard, int]], compute: Compute) -> None:
        self.shelf, self.missing, self.running = shelf, missing, list[Any]()
        # Where nodes have roles, storage may know them: what one may read another may not, but the driver's may all.
        # Nodes of the role itself may be gone by now, and nobody would start one for what claims nothing.
        self.where = here() if compute.label_selector else "SPREAD"
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
        task = ray.remote(num_cpus=0, scheduling_strategy=self.where)(Shelf.join)
        self.running.append(task.remote(self.shelf, self.missing[name][0]))

    def _wait_for(self, running: int) -> None:
        import ray

        while len(self.running) > running:
            finished, self.running = ray.wait(self.running)
            ray.get(finished)

    def finish(self) -> None:
        """Wait for what is being joined."""
        self._wait_for(0)
