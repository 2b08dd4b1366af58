"""A ledger of two columns in parts of four items, for the tests of one thing at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sq.core.ledger import Ledger, LedgerSummary, WorkItem

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64())])


def opened(directory: Path, config: dict[str, Any] | None = None, schema: pa.Schema = SCHEMA, **more: Any) -> Ledger:
    return Ledger.open(directory, schema=schema, config=config or {"seed": 1}, **({"part_size": 4} | more))


def items(count: int) -> Iterator[WorkItem]:
    return (WorkItem(f"k{i}", i) for i in range(count))


def fill(directory: Path, count: int = 10, **more: Any) -> LedgerSummary:
    with opened(directory, **more) as ledger:
        for item in ledger.todo(items(count)):
            ledger.record(item.key, [{"id": item.key, "n": item.payload}])
        return ledger.finish()
