"""What a person sees: one live line for the running stage, a search's best so far below it, one line for each finished.

Where there is no terminal, as in a job's log, the running stage writes a line from time to time.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import accumulate
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from raydistill.core.manifest import Manifest
from raydistill.core.progress import Rows

NAME_WIDTH = 20
INDENT, GAP = 6, 2
"""Of what is shown below a stage's line, and between its columns."""
LINE_EVERY_S = 30.0
"""Between two lines of a running stage in a log."""


class Display:
    """Writes to standard error; live only on a terminal.

    Args:
        quiet: say nothing at all.
        line_every_s: seconds between two lines of a running stage where nothing is live.
    """

    def __init__(self, quiet: bool = False, line_every_s: float = LINE_EVERY_S) -> None:
        """Write to the terminal behind standard error."""
        self.console, self.line_every_s = Console(file=sys.stderr, quiet=quiet, highlight=False), line_every_s

    def line(self, text: str, node: str | None = None, kind: str | None = None) -> None:
        """Write one line.

        Args:
            text: for a person.
            node: whom it is about, for logs.
            kind: of stage, for logs.
        """
        self.console.print(text, markup=False, soft_wrap=True)

    def result(self, event: str, lines: Sequence[str], **fields: Any) -> None:
        """Write to standard output what all came to, quiet or not.

        Args:
            event: its name in a log.
            lines: for a person.
            fields: the same for a log.
        """
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()

    @contextmanager
    def stage(self, node: str, number: int, total: int, kind: str) -> Iterator["StageLine"]:
        """Show a stage while it runs.

        Args:
            node: its name.
            number: its place, from 1.
            total: how many there are.
            kind: of stage; for logs.
        """
        title = f"[{number:2d}/{total}] {node:<{NAME_WIDTH}}"
        columns = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn()]
        live = Live(
            *columns, TextColumn("{task.fields[unit]}"), Rate(), TimeElapsedColumn(), TextColumn("ETA"),
            TimeRemainingColumn(), console=self.console, transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip
        with live:
            yield StageLine(self, title, live, live.add_task(title, total=None, unit=""))


class StageLine:
    """The line of one stage: a bar while it runs, a sentence when it is done."""

    def __init__(self, display: Display, title: str, live: "Live", task: TaskID) -> None:
        """Start at nothing done."""
        self.display, self.title, self.live, self.task = display, title, live, task
        self.written = time.monotonic()

    def progress(self, done: int, total: int, unit: str) -> None:
        """Move the bar; in a log, write a line when one is due."""
        self.live.update(self.task, completed=done, total=total or None, unit=unit)
        now = time.monotonic()
        if self.live.disable and now - self.written >= self.display.line_every_s:
            self.written = now
            self.display.line(f"{self.title} {self._course()}")

    def standings(self, rows: Rows) -> None:
        """Show what a search has found so far; in a log, only once it has ended."""
        if not rows:
            return
        self.live.below = _fitting(rows, self.display.console.width - INDENT)

    def _course(self) -> str:
        """How far it is and what is left, by the pace of the last half minute."""
        task = next(task for task in self.live.tasks if task.id == self.task)
        said = f"{task.completed:,.0f}" + (f"/{task.total:,.0f}" if task.total else "") + f" {task.fields['unit']}"
        pace = f", {task.speed:.1f}/s" if task.speed else ""
        left = f", ETA {timedelta(seconds=task.time_remaining)}" if task.time_remaining else ""
        return f"{'running':>7}  {said}{pace}{left}"

    def finish(self, state: str, manifest: Manifest) -> None:
        """Leave one line behind.

        Args:
            state: `done`, `cached` or `skipped`.
            manifest: of the node's artifact.
        """
        said = manifest.skipped or ", ".join(f"{name} {count:,}" for name, count in manifest.counts.items())
        self.display.line(f"{self.title} {f'{manifest.seconds:.0f} s' if state == 'done' else state:>7}  {said}")
        if self.live.below:
            self.display.console.print(Padding.indent(self.live.below, INDENT))
        for note in manifest.facts.get("notes", ()):
            self.display.line(f"{'':8}note: {note}")


class Live(Progress):
    """A bar, and something below it."""

    below: Table | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return what is drawn."""
        yield from super().get_renderables()
        if self.below:
            yield Padding.indent(self.below, INDENT)


class Rate(ProgressColumn):
    """Units a second of late; what an earlier attempt did is no part of it."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing before it can be told."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def _fitting(rows: Rows, width: int) -> Table:
    """Lay rows out, a line for each word of a heading; an ellipsis stands for last columns that have no room."""
    columns = {name.replace("_", "\n"): [f"{row[name]:.4g}" for row in rows] for name in rows[0]}
    ends = list(accumulate(GAP + max(map(len, [*head.split(), *cells])) for head, cells in columns.items()))
    most = len(ends) if ends[-1] <= width else sum(end <= width - GAP - 1 for end in ends)
    shown = list(columns)[:most]
    table = Table(*shown, *["…"] * (most < len(ends)), box=None, padding=(0, 0, 0, GAP))
    for number in range(len(rows)):
        table.add_row(*(columns[name][number] for name in shown))
    return table
