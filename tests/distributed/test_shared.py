"""Parts on actors: what can never be held is refused, what the cluster can grow to is waited for."""

import pytest

from raydistill.core.errors import RaydistillError
from raydistill.core.section import Compute
from raydistill.distributed import shared
from raydistill.distributed.capacity import Kind, Room

TRAINING = {"CPU": 8.0, "GPU": 1.0}
COMPUTE = Compute(num_workers=1, num_cpus=8, num_gpus=1, label_selector={"role": "training"})


def room(nodes, role="training"):
    return Room([Kind(TRAINING, {"role": role}, nodes)])


@pytest.mark.parametrize(
    ("now", "later", "is_refused"),
    [
        (room(4), room(4), False),
        # The training nodes have gone idle since.
        (room(0), room(4), False),
        (room(0), None, False),
        (room(4), room(0), False),
        (room(1), room(3), True),
        (room(8, "sampling"), room(8, "sampling"), True),
    ],
)
def test_a_cluster_that_can_grow_to_hold_the_parts_is_waited_for(monkeypatch, now, later, is_refused):
    monkeypatch.setattr(shared, "present", lambda: now)
    monkeypatch.setattr(shared, "grown", lambda config: later)
    if not is_refused:
        shared._refuse_too_many(3, COMPUTE)
        return
    with pytest.raises(RaydistillError, match="3 parts and one worker beside them claim 1 GPUs each"):
        shared._refuse_too_many(3, COMPUTE)
