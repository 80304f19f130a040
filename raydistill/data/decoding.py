"""Decoding DICOM's compressed pixels in a process of its own: native decoders crash on damaged bytes, and only it dies.

`python -m raydistill.data.decoding` is that process: files come in, each with its length before it, and arrays or words
go out. It ends when nobody writes to it any more.
"""

import io
import os
import struct
import subprocess
import sys
from contextlib import suppress
from queue import Empty, LifoQueue
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

LENGTH = struct.Struct(">Q")
ARRAY, WORDS = b"A", b"W"
IDLE: "LifoQueue[subprocess.Popen[bytes]]" = LifoQueue()
"""Processes that nobody waits for; there are as many as there were threads that decoded at a time."""


class Undecodable(Exception):
    """Pixels that can't be decoded, with the decoder's words."""


def decode_apart(content: bytes) -> NDArray[Any]:
    """Decode the pixels of a DICOM file.

    Args:
        content: the file.

    Returns:
        Stored values: (H, W), (H, W, 3), or either after the number of frames; colour is RGB.

    Raises:
        Undecodable: when no decoder can, or the one that tries dies of it.
    """
    try:
        process = IDLE.get_nowait()
    except Empty:
        process = _started()
    try:
        _send(process.stdin, content)
        answer = _receive(process.stdout)
    except (BrokenPipeError, EOFError):
        raise Undecodable(f"the decoder died with exit code {process.wait()}") from None
    IDLE.put(process)
    if answer[:1] == WORDS:
        raise Undecodable(answer[1:].decode(errors="replace"))
    return np.asarray(np.load(io.BytesIO(answer[1:]), allow_pickle=False))


def _started() -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "raydistill.data.decoding"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment)


def _send(stream: IO[bytes] | None, content: bytes) -> None:
    if stream is not None:
        stream.write(LENGTH.pack(len(content)))
        stream.write(content)
        stream.flush()


def _receive(stream: IO[bytes] | None) -> bytes:
    if stream is None or len(head := stream.read(LENGTH.size)) < LENGTH.size:
        raise EOFError
    content = stream.read(LENGTH.unpack(head)[0])
    if len(content) < LENGTH.unpack(head)[0]:
        raise EOFError
    return content


def _answer(content: bytes) -> bytes:
    from pydicom.pixels.utils import pixel_array

    try:
        buffer = io.BytesIO()
        np.save(buffer, pixel_array(io.BytesIO(content)), allow_pickle=False)
        return ARRAY + buffer.getvalue()
    except Exception as error:  # noqa: BLE001 (whatever a plugin raises is its word on these bytes)
        return WORDS + f"{type(error).__name__}: {error}".encode()


def _serve() -> None:
    # What decoders print must not come among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with suppress(EOFError, BrokenPipeError):
        while True:
            _send(answers, _answer(_receive(sys.stdin.buffer)))


if __name__ == "__main__":
    _serve()
