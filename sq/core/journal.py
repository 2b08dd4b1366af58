"""The journal of an open part: one line per result, on disk as soon as it is recorded.

A line is a CRC-32 in hex, a space, a JSON value. An object is a header (which part this is, of which items); an array
is a result `[key, rows, rejects]`. A line reaches the system at once, so a killed process loses nothing; it reaches
the disk with the next sync. What a kill or a power cut tore is found by its CRC and cut.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from sq.core.codec import Values, dump
from sq.core.files import plain_errors, remove, sync_directory, write_all, write_files

log = logging.getLogger(__name__)
Results = dict[str, tuple[list[Values], list[Values]]]


class Journal:
    """Append-only results of one part. The file is made with the first result."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self._header = header
        self._fd: int | None = None
        self._end = 0
        self._dirty = False
        self._torn = False
        self._named = True  # whether the file's name is durable in its directory

    def replay(self) -> tuple[list[dict[str, Any]], Results]:
        """The headers and results left by an earlier run, if any. A torn end is cut off."""
        with plain_errors(self.path, "read the journal"):
            if not self.path.exists():
                return [], {}
            fd = self._open()
            headers, results = self._read(fd)
        if not headers:
            with plain_errors(self.path, "write the journal"):
                self._append(fd, dump(self._header))
        return headers, results

    def append(self, result: bytes) -> None:
        """Put a result (dumped) at the end, whole or not at all."""
        with plain_errors(self.path, "write the journal"):
            fd = self._fd
            if fd is None:
                fd = self._open()
                self._named = False
            if self._end == 0:
                self._append(fd, dump(self._header))
            self._append(fd, result)

    def keep(self, results: Results) -> None:
        """Leave these results alone, in one step and durably: a later one of a key does not replace an earlier."""
        self.close()
        payloads = [dump(self._header), *(dump([key, *result]) for key, result in results.items())]
        write_files(self.path.parent, {self.path.name: b"".join(map(_line, payloads))})
        with plain_errors(self.path, "read the journal"):
            self._open()

    def results(self) -> Results:
        """Read back all that was recorded."""
        with plain_errors(self.path, "read the journal"):
            return self._read(self._open() if self._fd is None else self._fd)[1]

    def sync(self) -> None:
        """Bring what was appended to the disk."""
        if self._fd is not None and self._dirty:
            with plain_errors(self.path, "write the journal"):
                os.fsync(self._fd)
                if not self._named:
                    sync_directory(self.path.parent)
                    self._named = True
            self._dirty = False

    def close(self) -> None:
        """Release the file. Safe to call twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def delete(self) -> None:
        """Close and delete, once the part is committed."""
        self.close()
        remove(self.path)

    def _open(self) -> int:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._end = os.fstat(self._fd).st_size
        return self._fd

    def _append(self, fd: int, payload: bytes) -> None:
        line = _line(payload)
        try:
            if self._torn:
                os.ftruncate(fd, self._end)
                self._torn = False
            write_all(fd, line)
        except BaseException:
            self._torn = True  # until the piece that may have been written is cut off, now or before the next line
            with suppress(OSError):
                os.ftruncate(fd, self._end)
                self._torn = False
            raise
        self._end += len(line)
        self._dirty = True

    def _read(self, fd: int) -> tuple[list[dict[str, Any]], Results]:
        data = _read_all(fd)
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            log.warning("%s: cut a torn line of %d bytes off the end", self.path, len(data) - whole)
            os.ftruncate(fd, whole)
            self._end = whole
        headers: list[dict[str, Any]] = []
        results: Results = {}
        damaged = 0
        for line in data[:whole].split(b"\n")[:-1]:
            value = parse_line(line)
            if isinstance(value, dict):
                headers.append(value)
            elif value is not None:
                results.setdefault(value[0], (value[1], value[2]))
            else:
                damaged += 1
        if damaged:
            log.warning("%s: %d lines are damaged; their items will be computed again", self.path, damaged)
        return headers, results


def read_header(path: Path) -> dict[str, Any] | None:
    """The header of the journal at `path`, or None if it is damaged."""
    with plain_errors(path, "read the journal"), open(path, "rb") as file:
        header = parse_line(file.readline().rstrip(b"\n"))
    return header if isinstance(header, dict) else None


def _line(payload: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def parse_line(line: bytes) -> Any:
    """The value of a line, or None if it is damaged."""
    payload = line[9:]
    with suppress(ValueError):
        if int(line[:8], 16) == zlib.crc32(payload):
            return json.loads(payload)
    return None


def _read_all(fd: int) -> bytes:
    pieces, at = [], 0
    while piece := os.pread(fd, 1 << 22, at):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)
