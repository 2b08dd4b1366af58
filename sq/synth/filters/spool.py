"""For filters that see all rows before the first one goes on: rows wait on disk, and each draws a number."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from sq.core.files import plain_errors
from sq.synth.filters.base import FilterItem


class Spool:
    """Cases in their order, in a file without a name that is gone with the process."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._count = directory, 0
        with plain_errors(directory, "write there"):
            directory.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=directory, buffering=1 << 20)

    def add(self, case: FilterItem) -> None:
        """Put a case behind the others."""
        with plain_errors(self._directory, "write there"):
            pickle.dump(case, self._file, protocol=5)
        self._count += 1

    def __iter__(self) -> Iterator[FilterItem]:
        """Every case, as it was added."""
        with plain_errors(self._directory, "write there"):
            self._file.seek(0)
        for _ in range(self._count):
            yield pickle.load(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def draw(seed: int, filter_name: str, key: str) -> float:
    """A number above 0 and below 1 that a row draws, whatever rows are beside it."""
    digest = blake2b(f"{seed}:{filter_name}:{key}".encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return (int.from_bytes(digest, "big") + 0.5) / (1 << 48)
