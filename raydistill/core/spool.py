"""Contents that lie on this machine's disk, one behind the other, and in memory only while somebody looks at one."""

import os
import tempfile
from typing import NamedTuple

from raydistill.core.scratch import scratch


class Spool:
    """A file without a name: it goes with whatever was kept in it, or with the process."""

    def __init__(self) -> None:
        """Open a new one in this process's scratch."""
        self.file = tempfile.TemporaryFile(dir=scratch())  # noqa: SIM115 (it lives as long as what is kept)
        self.end = 0

    def keep(self, content: bytes) -> "Kept":
        """Write a content behind the others."""
        kept = Kept(self, self.end, len(content))
        self.file.write(content)
        self.file.flush()
        self.end += len(content)
        return kept


class Kept(NamedTuple):
    """Where a content lies."""

    spool: Spool
    start: int
    length: int

    def read(self) -> bytes:
        """Read it."""
        return os.pread(self.spool.file.fileno(), self.length, self.start)
