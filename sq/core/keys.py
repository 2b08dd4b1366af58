"""Item keys: each comes once."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sq.core.errors import LedgerError

Hashes: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def check_keys(directory: Path, keys: Sequence[Any]) -> None:
    """Raise a `LedgerError` for a key that is no text."""
    for key in keys:
        if not isinstance(key, str) or not key:
            raise LedgerError(f"{directory}: an item's key must be a text, not {key!r}")


def hashes_of(keys: Sequence[str]) -> Hashes:
    """64 bits of each key, the same in every process."""
    return np.frombuffer(b"".join(blake2b(key.encode(), digest_size=8).digest() for key in keys), np.int64)


class SeenKeys:
    """The keys that came so far, by their hashes in a few sorted arrays: 80 MB for ten million."""

    def __init__(self) -> None:
        self._sorted: list[Hashes] = []
        self.repeated = False
        """Whether `add_later` has met a key for the second time."""

    def add(self, hashes: Hashes) -> int | None:
        """Add a part's keys; the place of one which came before, in this part or in another."""
        order = np.argsort(hashes, kind="stable")
        fresh = hashes[order]
        again = np.zeros(len(fresh), bool)
        again[1:] = fresh[1:] == fresh[:-1]
        for earlier in self._sorted:
            again |= earlier[np.minimum(np.searchsorted(earlier, fresh), len(earlier) - 1)] == fresh
        self._merge(fresh)
        return int(order[again].min()) if again.any() else None

    def add_later(self, hashes: Hashes) -> None:
        """Add a part's keys, cheaply: what came before is found when arrays are joined, or by `finish`."""
        self._merge(np.sort(hashes))

    def finish(self) -> None:
        """Find what `add_later` has not found yet."""
        while len(self._sorted) > 1:
            self._join(self._sorted.pop())

    def _merge(self, fresh: Hashes) -> None:
        self._sorted.append(fresh)
        while len(self._sorted) > 1 and len(self._sorted[-2]) <= len(self._sorted[-1]):
            self._join(self._sorted.pop())

    def _join(self, last: Hashes) -> None:
        joined = np.sort(np.concatenate([self._sorted.pop(), last]), kind="stable")
        self.repeated = self.repeated or bool((joined[1:] == joined[:-1]).any())
        self._sorted.append(joined)
