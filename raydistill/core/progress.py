"""How a running stage says how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""`progress(done, total, unit)`; `total` is 0 while it isn't known."""


def silent(done: int, total: int, unit: str) -> None:
    """Report to nobody."""
