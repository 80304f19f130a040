"""Scratch folders end with their process, whichever way it ends."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from raydistill.core import scratch
from raydistill.core.store import Store

HOLD = """
import sys
from raydistill.core.scratch import new_folder
folder = new_folder()
(folder / "latents").write_text("of a patient")
print(folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A place for temporary files that only this test uses."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    scratch.scratch.cache_clear()
    yield tmp_path
    scratch.scratch.cache_clear()


def holder():
    return subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )


def test_a_killed_process_leaves_a_folder_and_the_next_one_removes_it(place):
    process = holder()
    folder = Path(process.stdout.readline().strip())
    assert place in folder.parents
    scratch.sweep()
    assert (folder / "latents").exists(), "its process is alive"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (folder / "latents").exists()
    mine = scratch.new_folder()
    assert not folder.parent.exists()
    scratch.sweep()
    assert mine.exists()


def test_a_process_that_ends_removes_its_own(place):
    process = holder()
    folder = Path(process.stdout.readline().strip())
    process.communicate()
    assert process.returncode == 0
    assert not folder.parent.exists()


def test_somebody_who_sweeps_while_a_folder_is_made_takes_none_that_is_used(place, monkeypatch):
    made, is_taken = [], scratch._is_taken

    def swept_first(lock):
        if not made:
            made.append(lock)
            scratch.sweep()
        return is_taken(lock)

    monkeypatch.setattr(scratch, "_is_taken", swept_first)
    assert scratch.new_folder().exists()
    assert len(list(place.iterdir())) == 1


def test_what_is_not_ours_is_left_alone(place):
    (place / "raydistill-results").mkdir()
    (place / f"{scratch.PREFIX}unlocked").mkdir()
    scratch.sweep()
    assert len(list(place.iterdir())) == 2


def test_a_folder_of_another_file_system_is_kept_with_this_process(place):
    store = Store.open("memory://bucket/run")
    store.write_bytes("model/weights", b"1")
    kept = store.keep_local("model")
    assert (kept / "weights").read_bytes() == b"1"
    assert kept.parent == scratch.scratch()
    with scratch.temporary_folder() as folder:
        assert Path(folder).parent == scratch.scratch()
    assert not Path(folder).exists()
