"""Messages between the sandbox's processes: a length, then JSON. Neither pickle nor marshal is read from a program."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

_LENGTH = struct.Struct("=I")
LONGEST = 64 * 2**20
_dumps = json.JSONEncoder(separators=(",", ":")).encode


class DisconnectedError(Exception):
    """The other end is closed, or what it sent is no message."""


def send(fd: int, message: Any) -> None:
    """Write one message, whole; a DisconnectedError if nobody reads any more."""
    data = _dumps(message).encode("ascii")
    try:
        write_all(fd, _LENGTH.pack(len(data)) + data)
    except OSError as error:
        raise DisconnectedError("the other end is closed") from error


def receive(fd: int, longest: int = LONGEST) -> dict[str, Any]:
    """Read one message, whole; a DisconnectedError where there is none, or it is no JSON object, or too long."""
    (size,) = _LENGTH.unpack(_read_exactly(fd, _LENGTH.size))
    if size > longest:
        raise DisconnectedError(f"a message of {size:,} bytes is longer than the {longest:,} allowed")
    try:
        message = json.loads(_read_exactly(fd, size))
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise DisconnectedError("what came is no message")
    return message


def split_messages(data: bytes) -> list[dict[str, Any]]:
    """The messages that bytes consist of; from the first on that is none, nothing."""
    messages: list[dict[str, Any]] = []
    while len(data) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack(data[: _LENGTH.size])[0]
        try:
            message = json.loads(data[_LENGTH.size : end])
        except (ValueError, RecursionError):
            break
        if not isinstance(message, dict):
            break
        messages.append(message)
        data = data[end:]
    return messages


def write_all(fd: int, data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_json(fd: int) -> Any:
    """The JSON that a file holds; its offset, which other processes share, stays as it is."""
    return json.loads(os.pread(fd, os.fstat(fd).st_size, 0))


def _read_exactly(fd: int, size: int) -> bytes:
    parts = []
    while size:
        try:
            part = os.read(fd, min(size, 1 << 20))
        except OSError:
            part = b""
        if not part:
            raise DisconnectedError("the other end is closed")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
