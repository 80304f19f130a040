import logging
import warnings
from concurrent.futures import ThreadPoolExecutor

from raydistill.core.quiet import mute, quiet


def test_nothing_is_said_inside_and_everything_afterwards():
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("whose name it is", stacklevel=1)
        warnings.warn("else", stacklevel=1)
    assert [str(warning.message) for warning in warned] == ["else"]


def test_a_muted_package_says_nothing_and_others_do(caplog):
    def warn(module):
        warnings.warn_explicit("said", UserWarning, "file", 1, module=module)
        logging.getLogger(module.partition(".")[0]).error("said")

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        mute("alibrary")
        for module in ("alibrary", "alibrary.inner", "alibrary2"):
            warn(module)
    assert len(warned) == len(caplog.records) == 1
    assert caplog.records[0].name == "alibrary2"


def test_many_threads_leave_the_filters_as_they_were():
    before = list(warnings.filters)

    def once(_):
        with quiet():
            warnings.warn("x", stacklevel=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(400)))
    assert warnings.filters == before
