"""Things that all workers of a job read: one copy a node, or spread over actors where that is too much."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raydistill.core.config import ClusterConfig
from raydistill.core.errors import RaydistillError
from raydistill.core.section import Compute
from raydistill.distributed.capacity import grown, present
from raydistill.distributed.claims import claims
from raydistill.distributed.session import CLUSTER

MAX_RESTARTS = 16
"""Of a part: nodes go, but one that dies so often has no room where it is put."""

ANSWER_TIMEOUT_S = 1800.0
"""After which a part whose node is gone, and not replaced, isn't waited for any longer."""

NEXT_TO_NONE = 1e-3
"""CPUs, of an actor that claims none."""


@dataclass(frozen=True)
class Shared:
    """Arrays in Ray's object store. Workers of a node read one copy in place."""

    references: Mapping[str, Any]

    @classmethod
    def put(cls, arrays: Mapping[str, Any]) -> "Shared":
        """Put arrays there; they stay for as long as the driver holds on to this."""
        import ray

        return cls({name: ray.put(array) for name, array in arrays.items()})

    def get(self) -> dict[str, Any]:
        """Return the arrays, which can't be written to."""
        import ray

        return {name: ray.get(reference) for name, reference in self.references.items()}


class _Holder:
    """An actor that holds one part and answers for it. Lost with its node, it is made anew elsewhere."""

    def __init__(self, make: Callable[..., Any], arguments: dict[str, Any], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.part = make(**arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.part, method)(*arguments)


@dataclass(frozen=True)
class Spread:
    """Parts on actors of their own, which may be on any node; called together."""

    holders: Sequence[Any]

    @classmethod
    def start(cls, make: Callable[..., Any], arguments: Sequence[dict[str, Any]], compute: Compute) -> "Spread":
        """Start an actor for each part.

        Args:
            make: an importable class or function.
            arguments: of `make`, for each part.
            compute: what each actor claims; no CPU, which those who ask it need, and who wait meanwhile.

        Raises:
            RaydistillError: when the cluster hasn't the GPUs for all of them and one who asks, and can't grow to.
        """
        import ray

        claimed = claims(compute) | {"num_cpus": 0, "scheduling_strategy": "SPREAD"}
        if compute.num_gpus:
            _refuse_too_many(len(arguments), compute)
        holder = ray.remote(_Holder).options(**claimed, max_restarts=MAX_RESTARTS, max_task_retries=-1)
        threads = max(1, int(compute.num_cpus))
        return cls([holder.remote(make, one, threads) for one in arguments])

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every part with the same arguments, at once; return the answers in the parts' order."""
        import ray

        sent = [ray.put(argument) for argument in arguments]
        answers: list[Any] = ray.get(
            [holder.call.remote(method, *sent) for holder in self.holders], timeout=ANSWER_TIMEOUT_S
        )
        return answers

    def stop(self) -> None:
        """End the actors and free what they claim."""
        import ray

        for holder in self.holders:
            ray.kill(holder)


def _refuse_too_many(parts: int, compute: Compute) -> None:
    """Refuse what would wait for ever. What the cluster can grow to, its autoscaler sees waiting."""
    later, claimed = grown(CLUSTER.get() or ClusterConfig()), compute.model_copy(update={"num_cpus": NEXT_TO_NONE})
    wanted, most = parts + 1, None if later is None else max(room.workers(claimed) for room in (present(), later))
    if most is not None and most < wanted:
        raise RaydistillError(
            f"{parts} parts and one worker beside them claim {compute.num_gpus:g} GPUs each, and the cluster has room "
            f"for {most} of these {wanted}: let parts be larger, or claim less for each"
        )


def room_in_object_store() -> int:
    """Bytes of the smallest object store of the cluster's nodes."""
    import ray

    return int(min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]))
