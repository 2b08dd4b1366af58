"""Work for the ledger's tests: items with rows of a chosen size and a reject at every third, done like a stage does."""

import hashlib
from pathlib import Path

import pyarrow as pa

from sq.core.errors import LedgerError
from sq.core.ledger import Ledger, Reject, WorkItem

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("noise", pa.string())])


def opened(directory: Path) -> Ledger:
    return Ledger.open(directory, schema=SCHEMA, config={"seed": 1}, part_size=4)


def record(ledger: Ledger, item: WorkItem, size: int = 40) -> None:
    noise = hashlib.shake_256(item.key.encode()).hexdigest(size // 2)
    rejects = [Reject({"id": item.key}, "third")] if item.payload % 3 == 0 else []
    ledger.record(item.key, [{"id": item.key, "noise": noise}], rejects)


def run(directory: Path, count: int = 10, size: int = 40) -> tuple[list[str], LedgerError | None]:
    """Work like a stage: (items whose result was recorded, the error that ended it)."""
    recorded: list[str] = []
    try:
        with opened(directory) as ledger:
            for item in ledger.todo(WorkItem(f"k{i}", i) for i in range(count)):
                record(ledger, item, size)
                recorded.append(item.key)
            ledger.finish()
    except LedgerError as error:
        return recorded, error
    return recorded, None


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
