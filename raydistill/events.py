"""What a log collector sees in the place of `display`: one JSON object a line, an event each."""

import json
import logging
import math
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from raydistill.core.manifest import Manifest
from raydistill.core.progress import Rows
from raydistill.display import LINE_EVERY_S, Display


class Events(Display):
    """Writes events to standard error, each with time, host, run, node and stage: null where it is of none.

    Args:
        run: the run folder; None where it isn't known.
        quiet: say nothing at all.
        line_every_s: seconds between two events of a running stage.
    """

    def __init__(self, run: str | None, quiet: bool = False, line_every_s: float = LINE_EVERY_S) -> None:
        """Remember whose events these are."""
        super().__init__(quiet, line_every_s)
        self.run, self.quiet = run, quiet

    def event(self, event: str, node: str | None = None, stage: str | None = None, **fields: Any) -> None:
        """Write one event."""
        if not self.quiet:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            whole = {"time": now, "event": event, "run": self.run, "host": socket.gethostname()}
            said = json.dumps({**whole, "node": node, "stage": stage, **fields}, ensure_ascii=False)
            sys.stderr.write(f"{said}\n")
            sys.stderr.flush()

    def line(self, text: str, node: str | None = None, kind: str | None = None) -> None:
        """Write what would be a line for a person."""
        self.event("said", node, kind, text=text)

    def result(self, event: str, lines: Sequence[str], **fields: Any) -> None:
        """Write what all came to."""
        self.event(event, **fields)

    @contextmanager
    def stage(self, node: str, number: int, total: int, kind: str) -> Iterator["StageEvents"]:  # type: ignore[override]
        """Tell when a stage begins, how far it is, and how it ends.

        Args:
            node: its name.
            number: its place, from 1.
            total: how many there are.
            kind: of stage.
        """
        own = StageEvents(self, {"node": node, "stage": kind, "number": number, "of": total})
        own.tell("began")
        try:
            yield own
        except BaseException as error:
            own.tell("failed", error=type(error).__name__, text=str(error))
            raise


class StageEvents:
    """The events of one stage."""

    def __init__(self, events: Events, stage: dict[str, Any]) -> None:
        """Start at nothing done."""
        self.events, self.stage, self.written = events, stage, time.monotonic()

    def tell(self, event: str, **fields: Any) -> None:
        """Write an event of this stage."""
        self.events.event(event, **self.stage, **fields)

    def progress(self, done: int, total: int, unit: str) -> None:
        """Tell how far it is, when that is due."""
        now = time.monotonic()
        if now - self.written >= self.events.line_every_s:
            self.written = now
            self.tell("running", done=done, total=total, unit=unit)

    def standings(self, rows: Rows) -> None:
        """Tell what a search has found so far."""
        if rows:
            # JSON has no word for what couldn't be measured but null.
            self.tell("standings", best={n: value if math.isfinite(value) else None for n, value in rows[0].items()})

    def finish(self, state: str, manifest: Manifest) -> None:
        """Tell how it ended, and what there is to note.

        Args:
            state: `done`, `cached` or `skipped`.
            manifest: of the node's artifact.
        """
        said = {"key": manifest.key, "seconds": manifest.seconds, "counts": manifest.counts}
        self.tell(state, **said, **({"text": manifest.skipped} if manifest.skipped else {}))
        for note in manifest.facts.get("notes", ()):
            self.tell("note", text=note)


class Logged(logging.Handler):
    """Makes events of what libraries, and this one, log."""

    def __init__(self, events: Events) -> None:
        """Take warnings and worse."""
        super().__init__(logging.WARNING)
        self.events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Write one event."""
        self.events.event("logged", level=record.levelname.lower(), logger=record.name, text=record.getMessage())
