"""What a reader of a cohort must do."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from raydistill.data.rows import RawRow


@runtime_checkable
class Source(Protocol):
    """A cohort that can be read."""

    def check(self) -> None:
        """Say cheaply whether the cohort is there and has the columns it needs.

        Raises:
            InputError: what is wrong, where, and what to do.
        """

    def rows(self) -> Iterator[RawRow]:
        """Yield every row, numbered from 0, always in the same order, without holding the whole set."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what changes whenever the rows would, and doesn't depend on where they lie; plain JSON values."""
