"""Tokenised rows in two flat arrays: a million rows cost their tokens and little more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sq.models.pack import Row


@dataclass(frozen=True)
class TokenRows(Sequence[Row]):
    """Rows of token ids with the index of each row's first supervised token."""

    ids: np.ndarray
    ends: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[Row]) -> TokenRows:
        """Collect `rows` (read once) into arrays."""
        ids: list[np.ndarray] = []
        starts: list[int] = []
        for row in rows:
            ids.append(np.asarray(row.ids, dtype=np.int32))
            starts.append(row.start)
        lengths = np.fromiter((len(i) for i in ids), dtype=np.int64, count=len(ids))
        flat = np.concatenate(ids) if ids else np.empty(0, dtype=np.int32)
        return cls(flat, np.cumsum(lengths), np.asarray(starts, dtype=np.int32))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self.ends, prepend=0)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        begin = int(self.ends[index - 1]) if index else 0
        return Row(self.ids[begin : int(self.ends[index])].tolist(), int(self.starts[index]))

    def supervised(self, index: int) -> int:
        """How many of the row's tokens carry loss."""
        begin = int(self.ends[index - 1]) if index else 0
        return int(self.ends[index]) - begin - max(int(self.starts[index]), 1)
