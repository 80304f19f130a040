"""Putting pieces together to shards while others are still being computed."""

from typing import Any

from raydistill.core.section import Compute
from raydistill.distributed.claims import here
from raydistill.distributed.shards import Shard, Shelf

JOINS_AT_ONCE = 2
LOOK_S = 5.0
"""How often it is looked whether a node has gone."""


class Joining:
    """Joins shards as their last piece comes in, on the cluster and a few at a time.

    Args:
        shelf: where the pieces are.
        missing: by name each unfinished shard and the number of its pieces that aren't there yet.
        compute: of those who compute them.
    """

    def __init__(self, shelf: Shelf, missing: dict[str, tuple[Shard, int]], compute: Compute) -> None:
        self.shelf, self.missing, self.running = shelf, missing, dict[Any, tuple[str, set[str]]]()
        # Where nodes have roles, storage may know them: what one may read another may not, but the driver's may all.
        # Nodes of the role itself may be gone by now, and nobody would start one for what claims nothing.
        self.where = here() if compute.label_selector else "SPREAD"
        for name, (_, pieces) in missing.items():
            if not pieces:
                self._begin(name)

    def count(self, name: str) -> None:
        """Take note of another finished piece."""
        shard, pieces = self.missing[name]
        self.missing[name] = shard, pieces - 1
        if pieces == 1 and len(shard.rows) > 1:
            self._begin(name)

    def _begin(self, name: str) -> None:
        self._wait_for(JOINS_AT_ONCE - 1)
        self._ask(name, self.where, _living())

    def _ask(self, name: str, where: Any, nodes: set[str]) -> None:
        """Ask for a join; `nodes` are those that could have been asked."""
        import ray

        # It waits for disks and networks more than it computes; the pool may hold every CPU.
        task = ray.remote(num_cpus=0, scheduling_strategy=where)(Shelf.join)
        self.running[task.remote(self.shelf, self.missing[name][0])] = name, nodes

    def _wait_for(self, running: int) -> None:
        """Wait until no more are being joined; what was asked of a node that has gone is asked of this one.

        Ray itself waits seven minutes for the answer of a node whose network went without a word.
        """
        import ray

        while len({name for name, _ in self.running.values()}) > running:
            finished, _ = ray.wait(list(self.running), timeout=LOOK_S)
            ray.get(finished)
            joined = {self.running[task][0] for task in finished}
            self.running = {task: asked for task, asked in self.running.items() if asked[0] not in joined}
            living = _living()
            for task, (name, nodes) in list(self.running.items()):
                if nodes - living:
                    self.running[task] = name, set()
                    self._ask(name, here(), set())

    def finish(self) -> None:
        """Wait for what is being joined."""
        self._wait_for(0)


def _living() -> set[str]:
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
