"""What was scored before: an append-only store on disk, keyed by everything that decides a score.

A judge's reply or a difficulty costs far more than a row, so it is kept apart from the stage that asked for it: a
killed filter asks for nothing twice, and another threshold, order or output_dir reuses all of it. Only results are
kept: an error is asked again.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sq.core.files import DirectoryLock, plain_errors, write_all


class ScoreStore:
    """One store, for one process at a time. A line is a CRC-32, the key, and JSON; a torn one is dropped."""

    def __init__(self, directory: Path) -> None:
        with plain_errors(directory, "make it"):
            directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "scores.jsonl"
        self._lock = DirectoryLock(directory)
        self._places: dict[str, tuple[int, int]] = {}
        with plain_errors(self._path, "open it"):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._end = self._read()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> Any:
        """What is kept under `key`, which must be here."""
        start, length = self._places[key]
        return json.loads(os.pread(self._file, length, start))

    def put(self, key: str, value: Any) -> None:
        """Keep a value for good: when this returns, a killed process does not lose it."""
        text = json.dumps(value, separators=(",", ":")).encode()
        line = b"%08x %s %s\n" % (zlib.crc32(text), key.encode(), text)
        with plain_errors(self._path, "write it"):
            write_all(self._file, line)
        self._places[key] = (self._end + 10 + len(key), len(text))
        self._end += len(line)

    def close(self) -> None:
        """Let the store go. Safe to call twice."""
        if self._lock.held:
            os.close(self._file)
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> int:
        """Find the places of all whole lines; cut a torn end off."""
        at = 0
        with open(self._path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file, at)
                    break
                crc, _, rest = line[:-1].partition(b" ")
                key, _, text = rest.partition(b" ")
                if crc == b"%08x" % zlib.crc32(text):
                    self._places[key.decode()] = (at + len(crc) + len(key) + 2, len(text))
                at += len(line)
        return at
