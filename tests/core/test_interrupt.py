"""SIGTERM ends a run as Ctrl-C does, wherever it was started."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import signal, sys, time
from raydistill.core.interrupt import end_as_by_interrupt
signal.signal(signal.SIGINT, {handler})
end_as_by_interrupt()
try:
    signal.raise_signal(signal.SIGTERM)
    time.sleep(5)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "signal.SIG_DFL", "signal.default_int_handler"])
def test_sigterm_is_an_interrupt_also_where_sigint_is_ignored(handler):
    line = [sys.executable, "-c", SCRIPT.format(handler=handler)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted")


def test_who_stops_reading_gets_no_message(tmp_path):
    command = f"{sys.executable} -m raydistill.cli config | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout
    assert done.stderr == ""
    assert done.returncode in (0, 128 + signal.SIGPIPE)
