"""Files that a row names, and files that a source is made of."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from pyarrow import fs

from raydistill.core.errors import InputError
from raydistill.core.manifest import FileEntry, digest_files
from raydistill.core.store import Store, readable
from raydistill.data.rows import RawRow, is_text

HASHED_BYTES = 4 << 30
"""Local cohorts up to this size are fingerprinted by content; larger and remote ones by sizes and times of change."""

MAX_FILE_BYTES = 1 << 30
"""No image of a radiograph is larger; what is, isn't read."""


def with_file(raw: RawRow, name: Any, folder: Store) -> RawRow:
    """Add the image that a row names.

    Args:
        raw: the row; one with a problem stays as it is.
        name: a path below the folder, or the folder's own and such a path; None where the row names none.
        folder: where the images are.

    Returns:
        The row with the bytes, or with the problem why it has none.
    """
    if raw.problem or not name:
        return raw
    if isinstance(name, str):
        name = name.removeprefix(f"{folder.uri}/").removeprefix(f"{folder.path}/")
    if not isinstance(name, str) or escapes(name):
        return replace(raw, origin=ascii(name), problem=("path_outside", "isn't a path below the source's folder"))
    return read_file(replace(raw, origin=name), name, folder)


def with_image(raw: RawRow, image: Any, folder: Store) -> RawRow:
    """Add an image as a table holds it: bytes, or a struct of bytes and path as Hugging Face's."""
    if not isinstance(image, dict):
        return replace(raw, image=image)
    if image.get("bytes") is not None or image.get("path") is None:
        return replace(raw, image=image.get("bytes"))
    return with_file(raw, image["path"], folder)


def read_file(raw: RawRow, name: str, folder: Store) -> RawRow:
    """Add the bytes of a file to a row, or the problem why there are none.

    Raises:
        InputError: when an object store doesn't give what it has: that says nothing of the row.
    """
    path = f"{folder.path}/{name}"
    if folder.is_local and stat.S_ISFIFO(_mode(path)):
        # Nobody may ever write into it.
        return replace(raw, problem=("missing_image", "is a pipe, not a file"))
    try:
        with folder.filesystem.open_input_file(path) as file:
            if file.size() > MAX_FILE_BYTES:
                return replace(raw, problem=("too_large", f"{file.size()} bytes, the limit is {MAX_FILE_BYTES}"))
            return replace(raw, image=bytes(file.read()))
    except OSError as error:
        # What pyarrow says of it holds the path.
        said = os.strerror(error.errno) if error.errno else type(error).__name__
        if not folder.is_local:
            with readable(folder.uri):
                is_there = folder.is_file(name)
            if is_there:
                raise InputError(f"{folder.uri}: can't be read: {said}; the same command reads it again") from error
        if "\\" in name:
            said += "; between folders put / and not \\"
        return replace(raw, problem=("missing_image", said))


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0


def escapes(name: str) -> bool:
    """Whether a path leads out of the folder that it should be relative to, on any system, or is none on any."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    rooted = posix.is_absolute() or windows.drive or windows.root
    return bool(rooted or ".." in windows.parts or "\0" in name or not is_text(name))


def files_below(store: Store) -> list[str]:
    """Return the files below a folder, sorted.

    Raises:
        InputError: when there is no such folder.
    """
    with _folder(store):
        return store.files()


def names_in(store: Store) -> list[str]:
    """Return the names of the files directly in a folder, sorted.

    Raises:
        InputError: when there is no such folder.
    """
    with _folder(store):
        infos = store.filesystem.get_file_info(fs.FileSelector(store.path))
    return sorted(info.base_name for info in infos if info.type == fs.FileType.File)


@contextmanager
def _folder(store: Store) -> Iterator[None]:
    """Say in one line that there is no such folder, or that it can't be read."""
    with readable(store.uri):
        if not store.exists() or store.is_file():
            raise InputError(f"{store.uri}: no such folder; set source.path to the one the archive lies in")
        yield


def digest_below(store: Store) -> dict[str, Any]:
    """Digest every file below a folder."""
    return digest(store, [f"{store.path}/{name}" for name in files_below(store)])


def digest(store: Store, files: Iterable[str]) -> dict[str, Any]:
    """Digest files by their paths below a source's folder, so that a cohort may be moved."""
    with readable(store.uri):
        infos = [info for info in store.filesystem.get_file_info(sorted(set(files))) if info.type == fs.FileType.File]
        total = sum(info.size for info in infos)
        by_content = store.is_local and total <= HASHED_BYTES
        entries = [
            FileEntry(
                path=info.path.removeprefix(store.path).lstrip("/"),
                size=info.size,
                sha256=_sha256(info.path) if by_content else f"changed {info.mtime_ns}",
            )
            for info in infos
        ]
    return {"files": len(entries), "bytes": total, "by_content": by_content, "digest": digest_files(entries)}


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
