"""SIGTERM, which schedulers send, ends a run as Ctrl-C does."""

import signal
import threading
from typing import Any

INTERRUPTED = 130
"""Exit code: 128 and the number of SIGINT, as shells have it."""


def end_as_by_interrupt() -> None:
    """Let SIGTERM do what SIGINT does; where that is ignored, as in a script's background, it ends the run itself."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: Any) -> None:
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.SIG_DFL):
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)
