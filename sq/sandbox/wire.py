"""Messages between the sandbox's processes: a length, then JSON. Neither pickle nor marshal is read from a program."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

_HEAD = struct.Struct("=I")
LONGEST = 64 * 2**20
_dumps = json.JSONEncoder(separators=(",", ":")).encode


class GoneError(Exception):
    """The other end is closed, or what it said is no message."""


def send(fd: int, message: Any) -> None:
    """Write one message, whole.

    Raises:
        GoneError: if nobody reads any more.
    """
    send_bytes(fd, _dumps(message).encode("ascii"))


def send_bytes(fd: int, data: bytes) -> None:
    """Write one message that is JSON already."""
    view = memoryview(_HEAD.pack(len(data)) + data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise GoneError("the other end is closed") from error


def receive(fd: int, longest: int = LONGEST) -> Any:
    """Read one message, whole.

    Raises:
        GoneError: if the other end is closed, or the message is no JSON, or longer than `longest`.
    """
    (size,) = _HEAD.unpack(_exactly(fd, _HEAD.size))
    if size > longest:
        raise GoneError(f"a message of {size:,} bytes is longer than the {longest:,} allowed")
    try:
        return json.loads(_exactly(fd, size))
    except (ValueError, RecursionError) as error:
        raise GoneError("what came is no message") from error


def load(fd: int) -> Any:
    """The JSON that a file holds; its offset, which other processes share, stays as it is."""
    parts, at, size = [], 0, os.fstat(fd).st_size
    while at < size and (part := os.pread(fd, min(size - at, 1 << 20), at)):
        parts.append(part)
        at += len(part)
    return json.loads(b"".join(parts))


def _exactly(fd: int, size: int) -> bytes:
    parts = []
    while size:
        try:
            part = os.read(fd, min(size, 1 << 20))
        except OSError as error:
            raise GoneError("the other end is closed") from error
        if not part:
            raise GoneError("the other end is closed")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
