"""Tokenised rows on disk: written as they stream by, read through a memory map, made once and shared by processes.

A million rows cost their tokens on disk and little memory. A data set of pairs has two rows an item (chosen, then
rejected), every other one row.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from sq.models.pack import TokenSequence

_TYPES = {"ids": "<i4", "ends": "<i8", "starts": "<i4", "keys": "S32", "values": "<f4"}
_FLUSH = 1 << 16
_META = "meta.json"


class TokenizedExample(NamedTuple):
    """One item of a data set, tokenised: its row (or two, for a pair), its id, and numbers that go with it."""

    rows: tuple[TokenSequence, ...]
    key: str
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class TokenRows:
    """Items of token ids with the index of each row's first supervised token."""

    ids: np.ndarray
    ends: np.ndarray
    starts: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    segments: int

    @classmethod
    def of(cls, items: Iterable[TokenizedExample], directory: Path) -> TokenRows:
        """Write `items` (read once) to `directory` and open them."""
        with TokenWriter(directory) as writer:
            for item in items:
                writer.add(item)
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> TokenRows:
        """What a `TokenWriter` has written."""
        meta = json.loads((directory / _META).read_text())
        columns = {name: _mapped(directory / f"{name}.bin", kind) for name, kind in _TYPES.items()}
        columns["values"] = columns["values"].reshape(meta["items"], meta["width"])
        return cls(**columns, segments=meta["segments"])

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each item, all its rows together."""
        own = np.diff(self.ends, prepend=0)
        return np.add.reduceat(own, np.arange(0, len(own), self.segments)) if len(own) else own

    @property
    def longest(self) -> int:
        """Tokens of the longest row; 0 where there is none."""
        return int(np.diff(self.ends, prepend=0).max(initial=0))

    def rows(self, item: int) -> list[TokenSequence]:
        """The item's row, or its two."""
        return [self._row(item * self.segments + i) for i in range(self.segments)]

    def supervised(self, item: int) -> int:
        """How many of the item's tokens carry loss."""
        part = slice(item * self.segments, (item + 1) * self.segments)
        own = np.diff(self.ends[part], prepend=self._begin(part.start))
        return int((own - np.maximum(self.starts[part], 1)).sum())

    def common_prefix(self) -> tuple[int, ...]:
        """The opening tokens that every row has and none supervises: what a pack can share."""
        if not len(self.ends):
            return ()
        begins = np.concatenate([[0], self.ends[:-1]])
        limit = int(min(self.starts.min(), (self.ends - begins).min() - 1))
        first = tuple(int(i) for i in self.ids[: max(limit, 0)])
        for place, token in enumerate(first):
            if not (self.ids[begins + place] == token).all():
                return first[:place]
        return first

    def digest(self) -> str:
        """Of the tokens, which of them carry loss, and the numbers that go with them."""
        total = hashlib.blake2b(digest_size=6)
        for column in (self.ids, self.ends, self.starts, self.values):
            total.update(np.ascontiguousarray(column).tobytes())
        return total.hexdigest()

    def name(self, item: int) -> str:
        """The item's id."""
        return bytes(self.keys[item]).decode(errors="replace")

    def _row(self, index: int) -> TokenSequence:
        return TokenSequence(self.ids[self._begin(index) : int(self.ends[index])].tolist(), int(self.starts[index]))

    def _begin(self, index: int) -> int:
        return int(self.ends[index - 1]) if index else 0


class TokenWriter:
    """Appends items to the files of a directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._files = {name: (directory / f"{name}.bin").open("wb") for name in _TYPES}
        self._held: dict[str, list[Any]] = {name: [] for name in _TYPES}
        self._end, self.items, self.segments, self.width = 0, 0, 1, 0

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._flush()
        for file in self._files.values():
            file.close()
        if kind is None:
            meta = {"items": self.items, "segments": self.segments, "width": self.width}
            (self._directory / _META).write_text(json.dumps(meta))

    def add(self, item: TokenizedExample) -> None:
        """Take in one item."""
        self.segments, self.width = len(item.rows), len(item.values)
        for row in item.rows:
            self._end += len(row.ids)
            self._held["ids"].extend(row.ids)
            self._held["ends"].append(self._end)
            self._held["starts"].append(row.start)
        self._held["keys"].append(item.key.encode()[:32])
        self._held["values"].extend(item.values)
        self.items += 1
        if len(self._held["ids"]) >= _FLUSH:
            self._flush()

    def _flush(self) -> None:
        for name, values in self._held.items():
            self._files[name].write(np.asarray(values, dtype=_TYPES[name]).tobytes())
            values.clear()


def fill_once(directory: Path, make: Callable[[Path], None]) -> Path:
    """`directory` as `make` fills it: by one process, whole or not at all, while others wait for it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".{directory.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.is_dir():
            staging = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            try:
                make(staging)
                staging.rename(directory)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    return directory


def _mapped(path: Path, kind: str) -> np.ndarray:
    return np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.empty(0, dtype=kind)
