"""Whose turn it is to compute. An actor of its own, which imports next to nothing."""

import asyncio

Clocks = tuple[float, float]
"""Seconds by the wall, and of computing in a process."""


class Turns:
    """A Ray actor that lets one loop compute at a time, in a fixed order, once all of them are there.

    Args:
        names: of the loops.
        blocks: after as many of each, all may go on.
    """

    def __init__(self, names: list[str], blocks: int) -> None:
        self.names, self.last, self.count = names, len(names) * (blocks + 1), 0
        self.mine = {name: asyncio.Event() for name in names}
        self.seconds: dict[str, list[Clocks]] = {name: [] for name in names}

    async def pass_on(self, name: str, seconds: Clocks | None) -> None:
        """Note what a block took, let the next loop compute, and wait until it is one's turn again."""
        self.seconds[name] += [] if seconds is None else [seconds]
        self.count += 1
        if self.count >= len(self.names):
            following = [self.names[self.count % len(self.names)]]
            for waiting in self.names if self.count == self.last else following:
                self.mine[waiting].set()
        await self.mine[name].wait()
        self.mine[name].clear()

    async def taken(self) -> dict[str, list[Clocks]]:
        """Return what every block took, by loop."""
        return self.seconds
