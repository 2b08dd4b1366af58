"""What was scored before: an append-only store on disk, keyed by everything that decides a score.

A judge's reply or a difficulty costs far more than a row, so it is kept apart from the stage that asked for it: a
killed filter asks for nothing twice, and another threshold, order or output_dir reuses all of it. Only results are
kept: an error is asked again. Workers that have one store at a time each write a file of their own, and read all.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sq.core.errors import HeldError
from sq.core.files import DirectoryLock, plain_errors, write_all

FILE = "scores.jsonl"


class ScoreStore:
    """One store. A line is a CRC-32, the key, and JSON; a torn one is dropped.

    A process writes the first file that no other has: that of the directory, else of one in it. What others write while
    it has the store open it does not see.
    """

    def __init__(self, directory: Path) -> None:
        self._lock = _first_free(directory)
        self._path = self._lock.directory / FILE
        self._places: dict[str, tuple[int, int, int]] = {}
        with plain_errors(self._path, "open it", "stage.scores"):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            others = [path for path in sorted(directory.glob(f"**/{FILE}")) if path != self._path]
            self._files = [self._file, *(os.open(path, os.O_RDONLY) for path in others)]
        for path, file in zip([self._path, *others], self._files, strict=True):
            end = self._read(path, file)
            if file == self._file:
                os.ftruncate(file, end)
                self._end = end

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> Any:
        """What is kept under `key`, which must be here."""
        file, start, length = self._places[key]
        return json.loads(os.pread(file, length, start))

    def put(self, key: str, value: Any) -> None:
        """Keep a value for good: when this returns, a killed process does not lose it."""
        text = json.dumps(value, separators=(",", ":")).encode()
        line = b"%08x %s %s\n" % (zlib.crc32(text), key.encode(), text)
        with plain_errors(self._path, "write it", "stage.scores"):
            write_all(self._file, line)
        self._places[key] = (self._file, self._end + 10 + len(key), len(text))
        self._end += len(line)

    def close(self) -> None:
        """Let the store go. Safe to call twice."""
        if self._lock.held:
            for file in self._files:
                os.close(file)
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, path: Path, file: int) -> int:
        """Find the places of all whole lines; where the last one ends."""
        at = 0
        with open(path, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                crc, _, rest = line[:-1].partition(b" ")
                key, _, text = rest.partition(b" ")
                if crc == b"%08x" % zlib.crc32(text):
                    self._places[key.decode()] = (file, at + len(crc) + len(key) + 2, len(text))
                at += len(line)
        return at


def _first_free(directory: Path) -> DirectoryLock:
    """The lock of the directory, or of the first one in it that no other process writes to."""
    for number in itertools.count():
        place = directory / str(number) if number else directory
        with plain_errors(place, "make it", "stage.scores"):
            place.mkdir(parents=True, exist_ok=True)
        with suppress(HeldError):
            return DirectoryLock(place)
    raise AssertionError
