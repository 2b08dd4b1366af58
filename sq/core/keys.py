"""Item keys: each comes once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sq.core.errors import LedgerError


class SeenKeys:
    """The keys that came so far, as 64-bit hashes in a few sorted arrays: 16 MB for two million."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sorted: list[np.ndarray[Any, np.dtype[np.int64]]] = []

    def add(self, keys: list[str]) -> None:
        """Add a part's keys; raise a `LedgerError` that names one which came before."""
        for key in keys:
            if not isinstance(key, str) or not key:
                raise LedgerError(f"{self._directory}: an item's key must be a text, not {key!r}")
        hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
        fresh, first = np.unique(hashes, return_index=True)
        again = np.setdiff1d(np.arange(len(keys)), first)
        for earlier in self._sorted:
            at = np.minimum(np.searchsorted(earlier, hashes), len(earlier) - 1)
            again = np.union1d(again, np.flatnonzero(earlier[at] == hashes))
        if len(again):
            key = keys[again[0]]
            raise LedgerError(f"{self._directory}: the item key {key!r} comes twice; every item needs a key of its own")
        while self._sorted and len(self._sorted[-1]) <= len(fresh):
            fresh = np.sort(np.concatenate([self._sorted.pop(), fresh]))
        self._sorted.append(fresh)
