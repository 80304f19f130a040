"""Handing a release on to a bucket, or to a folder."""

from collections.abc import Callable
from dataclasses import dataclass

from raydistill.core.errors import InputError, LineageError
from raydistill.core.signing import SUMS
from raydistill.core.store import Store
from raydistill.publishing.target import Transfer, in_order
from raydistill.report.checksums import hashed, read_sums
from raydistill.report.verified import verify_release


@dataclass(frozen=True)
class Bucket:
    """A folder anywhere that a `Store` reaches.

    Args:
        release: to be handed on.
        target: empty, or what an interrupted `send` left.
    """

    release: Store
    target: Store

    def transfers(self) -> list[Transfer]:
        """As `Target` says."""
        names = in_order(self.release)
        return [Transfer(name, (self.target / name).uri, self.release.size(name)) for name in names]

    def check(self) -> bool:
        """As `Target` says."""
        there, ours = self.target.files(), set(in_order(self.release))
        other = next((path for path in there if path not in ours), None)
        if other is None and SUMS in there:
            if self.target.read_bytes(SUMS) == self.release.read_bytes(SUMS):
                verify_release(self.target)
                return True
            other = SUMS
        if other:
            raise InputError(f"{self.target.uri} holds something else ({other}): name an empty folder")
        return False

    def send(self, say: Callable[[str], None]) -> None:
        """As `Target` says; what is sent is hashed once more.

        Raises:
            LineageError: when the release has changed meanwhile.
        """
        sums, names = read_sums(self.release), in_order(self.release)
        proof = {name: self.release.read_bytes(name) for name in names if name not in sums}
        self.target.delete_partial()
        for name in names:
            content = proof.get(name) or self.release.read_bytes(name)
            if name in sums and hashed(content) != sums[name]:
                raise LineageError(f"release: {name} in {self.release.uri} has changed since it was verified")
            self.target.write_bytes(name, content)
            say((self.target / name).uri)
