"""Seeing when a pool of actors waits for a node that is gone and may never be replaced."""

import time
from typing import Any

from ray.data._internal.execution.execution_callback import ExecutionCallback

STALL_S = 60.0
"""How long all work that is left may wait for lost actors before it is given to the others."""


class Stalled(Exception):
    """All work that is left waits for lost actors."""


class Watch(ExecutionCallback):  # type: ignore[misc]
    """Ends a job of Ray Data's whose remaining tasks are all those of actors that are to be started again.

    Ray keeps a lost actor's tasks for its next life. Where no node comes for that, they would wait for ever while the
    other actors have nothing to do.
    """

    def __init__(self) -> None:
        self.since: float | None = None

    def on_execution_step(self, executor: Any) -> None:
        """Look at the actors after each scheduling step."""
        pools = [operator._actor_pool for operator in executor._topology if hasattr(operator, "_actor_pool")]
        busy = [actor for pool in pools for actor in pool._running_actors.values() if actor.num_tasks_in_flight]
        if not busy or not all(actor.is_restarting for actor in busy):
            self.since = None
            return
        self.since = self.since or time.monotonic()
        if time.monotonic() - self.since > STALL_S:
            raise Stalled
