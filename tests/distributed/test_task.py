"""One function for several things, on as many workers as there is room for."""

from functools import partial

import pytest

from raydistill.core.errors import NothingToDo, RaydistillError
from raydistill.core.section import Compute
from raydistill.distributed.task import run_on_worker, run_on_workers

pytestmark = pytest.mark.ray

COMPUTE = Compute(num_workers=1, num_cpus=1)


def times(shared, item):
    if item == "nothing":
        raise NothingToDo("there is nothing")
    return shared * item


def test_outcomes_come_in_the_order_of_the_items(local_ray):
    told = []
    assert run_on_workers(times, 3, [4, 0, 2], COMPUTE, lambda *news: told.append(news), "items") == [12, 0, 6]
    assert all(total == 3 and unit == "items" for _, total, unit in told)
    assert told[-1] == (3, 3, "items")


def tells(news, *, last):
    for done in range(last + 1):
        news(done, last, "rows")
    return last


def test_what_a_worker_tells_last_is_heard(local_ray):
    told = []
    assert run_on_worker(partial(tells, last=50), COMPUTE, lambda *news: told.append(news)) == 50
    assert told[-1] == (50, 50, "rows")


@pytest.mark.parametrize(
    ("item", "error", "said"), [("nothing", NothingToDo, "there is nothing"), (None, RaydistillError, "worker failed")]
)
def test_a_failure_is_what_was_raised_or_one_line(local_ray, item, error, said):
    with pytest.raises(error, match=said):
        run_on_workers(times, 3, [1, item], COMPUTE, lambda *news: None, "items")
