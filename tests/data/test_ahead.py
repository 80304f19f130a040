import threading
import time

import pytest

from raydistill.data.ahead import AHEAD, ahead


def test_in_the_items_order_whoever_is_done_first():
    def slow_at_first(number):
        time.sleep(0.02 if number % 5 == 0 else 0)
        return number * 2

    assert list(ahead(iter(range(50)), slow_at_first)) == [(i, 2 * i) for i in range(50)]


def test_no_more_is_read_than_that_far_ahead():
    read = []
    results = ahead((read.append(i) or i for i in range(1000)), lambda i: i)
    for turn in range(1, 30):
        next(results)
        assert len(read) <= turn + AHEAD
    results.close()


def test_several_at_once():
    together = threading.Barrier(2, timeout=30)
    assert len(list(ahead(range(2), lambda _: together.wait()))) == 2


def test_errors_of_either_come_out():
    def items():
        yield 1
        raise KeyError("read")

    with pytest.raises(KeyError, match="read"):
        list(ahead(items(), lambda i: i))
    with pytest.raises(ZeroDivisionError):
        list(ahead(range(3), lambda i: 1 / i))
