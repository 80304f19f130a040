"""Folders on this machine's disk for as long as a process lives: latents of real images and teachers pass through.

A process that ends removes its own. One that is killed can't, so whoever comes next does: each folder has a lock that
the kernel lets go with its holder, whatever that holder's process id, container or user's session was.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

PREFIX = ".raydistill-scratch-"
LOCK = ".lock"


@cache
def scratch() -> Path:
    """Return this process's own folder, made at the first call; what dead processes left is removed then."""
    sweep()
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        # Never closed: the kernel does it.
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        if _is_taken(lock) and folder.exists():  # or somebody swept between these lines
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            return folder
        os.close(lock)


def new_folder() -> Path:
    """Return a new folder that lives as long as this process."""
    return Path(tempfile.mkdtemp(dir=scratch()))


def temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    """Return a folder that lives as long as its `with`, and no longer than this process."""
    return tempfile.TemporaryDirectory(dir=scratch())


def sweep() -> None:
    """Remove what killed processes of this user left on this machine."""
    for lock_file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        try:
            lock = os.open(lock_file, os.O_RDWR)
        except OSError:  # another user's, or gone by now
            continue
        if _is_taken(lock):
            shutil.rmtree(lock_file.parent, ignore_errors=True)
        os.close(lock)


def _is_taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
