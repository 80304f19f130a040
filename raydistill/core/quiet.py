"""Libraries that say on the side what they find odd about somebody's data, and are not to be heard."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

ONE_AT_A_TIME = Lock()
"""Python's filters of warnings are one for all threads: two that set and restore them would leave them changed."""


@contextmanager
def quiet() -> Iterator[None]:
    """Let nothing be warned of; other threads wait that want the same."""
    with ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def mute(package: str) -> None:
    """Let a package neither warn of anything nor log it, from now on and in all threads."""
    with ONE_AT_A_TIME:
        warnings.filterwarnings("ignore", module=rf"{package}(\.|$)")
    logging.getLogger(package).disabled = True
