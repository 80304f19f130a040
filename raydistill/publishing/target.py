"""Where a release can be handed on to, and what goes there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from raydistill.core.signing import SIGNATURE, SUMS
from raydistill.core.store import Store
from raydistill.report.checksums import read_sums


@dataclass(frozen=True)
class Transfer:
    """One file of a release on its way.

    Args:
        path: in the release.
        to: the address that it gets.
        size: in bytes.
    """

    path: str
    to: str
    size: int


class Target(Protocol):
    """Where a release is handed on to."""

    def transfers(self) -> list[Transfer]:
        """Say which file would go where, in order; nothing is sent or asked."""
        ...

    def check(self) -> bool:
        """Whether the whole release is there already.

        Raises:
            InputError: when something else is there.
        """
        ...

    def send(self, say: Callable[[str], None]) -> None:
        """Send it."""
        ...


def in_order(release: Store) -> list[str]:
    """List a release's files, their proof last and the student's before that of all: without it they are no release."""
    names = sorted(read_sums(release), key=lambda path: (path.rpartition("/")[2] in (SIGNATURE, SUMS), path))
    return [*names, *(name for name in (SIGNATURE, SUMS) if release.exists(name))]
