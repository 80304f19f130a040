import logging
import warnings
from concurrent.futures import ThreadPoolExecutor

from raydistill.core.quiet import quiet


def test_nothing_is_said_inside_and_everything_afterwards(caplog):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with quiet("a.library"):
            warnings.warn("whose name it is", stacklevel=1)
            logging.getLogger("a.library").error("whose name it is")
        warnings.warn("else", stacklevel=1)
        logging.getLogger("a.library").error("else")
    assert [str(warning.message) for warning in warned] == ["else"]
    assert [record.message for record in caplog.records] == ["else"]


def test_many_threads_leave_the_filters_as_they_were():
    before = list(warnings.filters)

    def once(_):
        with quiet():
            warnings.warn("x", stacklevel=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(400)))
    assert warnings.filters == before
