"""What the ledger costs: CPU time per recorded row, per part, and per row read, and the peak memory of reading.

    python benchmarks/ledger.py [ROWS] [DIRECTORY]

Times are of this process's CPU (`wall` beside them, which waits for the disk). Each item has one row of five columns.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from sq.core.ledger import Ledger, WorkItem, read_rows

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("question", pa.string()),
        pa.field("n", pa.int64()),
        pa.field("score", pa.float64()),
        pa.field("parents", pa.list_(pa.string())),
    ]
)
QUESTION = "How many apples does Ann have left after she has sold half of them at the market? " * 3


def write(directory: Path, rows: int) -> None:
    """Record `rows` items, timing `record` apart from the rest, with and without the commits it triggers."""
    plain = commits = 0.0
    with Ledger.open(directory, schema=SCHEMA, config={"rows": rows}) as ledger:
        start, cpu = time.perf_counter(), time.process_time()
        for item in ledger.todo(WorkItem(f"{n:032x}", n) for n in range(rows)):
            n = item.payload
            row = {"id": item.key, "question": QUESTION, "n": n, "score": n / 3, "parents": [item.key]}
            before = time.process_time_ns()
            ledger.record(item.key, [row])
            spent = (time.process_time_ns() - before) / 1e3
            if n % 1024 == 1023 or n == rows - 1:
                commits += spent
            else:
                plain += spent
        parts = ledger.finish().parts
        cpu, wall = time.process_time() - cpu, time.perf_counter() - start
    print(f"record: {plain / rows:.1f} us a row; commit: {commits / parts / 1e3:.1f} ms a part of 1024")
    print(f"write:  {cpu / rows * 1e6:.1f} us a row in all, wall {wall / rows * 1e6:.1f} us")


def read(directory: Path) -> None:
    """Pass over all rows."""
    start, cpu = time.perf_counter(), time.process_time()
    rows = sum(1 for _ in read_rows(directory))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - start
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(
        f"read:   {cpu / rows * 1e6:.1f} us a row, wall {wall / rows * 1e6:.1f} us, "
        f"peak {int(peak.split()[1]) // 1024} MB"
    )


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    if rows == 0:  # a process of its own, so that the peak is that of reading
        read(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as directory:
        write(Path(directory), rows)
        subprocess.run([sys.executable, __file__, "0", directory], check=True)


if __name__ == "__main__":
    main()
