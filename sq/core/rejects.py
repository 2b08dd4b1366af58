"""Rejects: rows that go no further, kept with the reason, so that no row ever disappears and the counts reconcile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sq.core.codec import Codec, Values, dump_loose, escape
from sq.core.errors import LedgerError

REJECTS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("key", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),
    ]
)
CODEC = Codec(REJECTS)

TRAINING_FILE = "rejects.jsonl"
"""In a training's directory: a line for each row that it could not use, with id, reason, detail and row."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that goes no further. `reason` is a short fixed word to count by; `detail` says more."""

    row: Mapping[str, Any]
    reason: str
    detail: str = ""

    def values(self, key: str) -> Values:
        """What is stored of it, in the order of `REJECTS`. Any row is taken: what UTF-8 cannot hold is escaped."""
        if not self.reason:
            raise LedgerError(f"item {key!r}: a reject needs a reason")
        name = self.row.get("id")
        try:
            row = dump_loose(dict(self.row))
        except (TypeError, ValueError) as error:
            raise LedgerError(f"item {key!r}: the rejected row cannot be kept as JSON: {error}") from None
        return [None if name is None else escape(str(name)), key, escape(self.reason), escape(self.detail), row]
