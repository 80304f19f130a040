"""Libraries that say on the side what they find odd about somebody's data, and are not to be heard."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

ONE_AT_A_TIME = Lock()
"""Python's filters of warnings are one for all threads: two that set and restore them would leave them changed."""


@contextmanager
def quiet(logger: str | None = None) -> Iterator[None]:
    """Let nothing be warned of, and a logger say nothing; other threads wait that want the same.

    Args:
        logger: its name.
    """
    said = logging.getLogger(logger) if logger else None
    before = said is not None and said.disabled
    with ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if said is not None:
            said.disabled = True
        try:
            yield
        finally:
            if said is not None:
                said.disabled = before
