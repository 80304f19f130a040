"""What a worker claims, where it lives, and what its failure was about."""

import re
from typing import Any

from raydistill.core.section import Compute

RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b.*")
"""The line that ends a Python traceback."""


def root_cause(error: BaseException) -> str:
    """Return in one line what a worker's failure was about: Ray's messages carry the worker's traceback as text."""
    said = [line.strip() for line in str(error).splitlines()]
    named = [line for line in said if RAISED.match(line) and not line.startswith("ray.")]
    return (named or [line for line in said if line] or [type(error).__name__])[-1]


def claims(compute: Compute) -> dict[str, Any]:
    """Translate a stage's compute section into what Ray reserves for one worker, as options of a task or an actor."""
    wanted = {
        "num_cpus": compute.num_cpus,
        "num_gpus": compute.num_gpus,
        "accelerator_type": compute.accelerator_type,
        "memory": compute.memory_bytes,
        "label_selector": dict(compute.label_selector),
        "scheduling_strategy": "SPREAD" if compute.placement == "spread" else None,
    }
    return {name: value for name, value in wanted.items() if value}


def here() -> Any:
    """The scheduling strategy of what must live where the driver does; Ray itself puts what claims nothing anywhere."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
