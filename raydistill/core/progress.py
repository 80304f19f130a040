"""How a running stage says how far it is, and what it has found so far."""

from collections.abc import Callable, Mapping, Sequence

Progress = Callable[[int, int, str], None]
"""`progress(done, total, unit)`; `total` is 0 while it isn't known."""


Rows = Sequence[Mapping[str, float]]
Standings = Callable[[Rows], None]
"""`standings(rows)`: what a search has found so far, best first, in columns of one's choice."""


def silent(done: int, total: int, unit: str) -> None:
    """Report to nobody."""


def unseen(rows: Rows) -> None:
    """Show nobody."""
