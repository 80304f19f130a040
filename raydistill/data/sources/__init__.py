"""Where a cohort comes from: a reader for every kind of archive, and anybody's own.

A reader streams: a row at a time, in an order that never changes, its image with it. What it can't use it hands on
with the problem, so that no row is lost.
"""

from raydistill.data.rows import RawRow
from raydistill.data.sources.opening import open_source
from raydistill.data.sources.phantom import PhantomReader
from raydistill.data.sources.protocol import Source

__all__ = ["PhantomReader", "RawRow", "Source", "open_source"]
