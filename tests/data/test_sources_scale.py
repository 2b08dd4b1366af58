"""Rows stream in bounded memory, from every format that can be large."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FEW, MANY = 50_000, 350_000
GROWTH = 40  # megabytes that 300,000 rows more may take; held as rows they take over 100
READ = """
import sys
from sq.core.rows import QUESTION
from sq.data.sources import SourceConfig, read_source
count = 0
for row in read_source(SourceConfig(input=sys.argv[1], shuffle=True), QUESTION, lambda bad: None):
    count += 1
# The peak of this program alone: ru_maxrss would count the test process it was forked from.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(count, int(peak.split()[1]) // 1024)
"""


def question(i):
    return f"A shop has {i} boxes of {i % 17} apples and sells {i % 7} of them each day. How many are left in the end?"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", ["jsonl", "csv", "json", "parquet"])
def test_memory_does_not_grow_with_the_rows(tmp_path, kind):
    few, many = (peak(write(tmp_path / f"{rows}.{kind}", kind, rows), rows) for rows in (FEW, MANY))
    assert many < 300 and many - few < GROWTH, f"{kind}: {few} MB for {FEW:,} rows, {many} MB for {MANY:,}"


def peak(path, rows):
    """The megabytes that a process holds at most which reads the file."""
    out = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    count, megabytes = map(int, out.stdout.split())
    assert count == rows
    return megabytes


def write(path, kind, rows):
    if kind == "parquet":
        schema = pa.schema([("question", pa.string()), ("answer", pa.string())])
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, rows, 50_000):
                block = range(start, start + 50_000)
                writer.write_table(pa.table([[question(i) for i in block], [str(i) for i in block]], schema=schema))
        return path
    head, separator, tail = {
        "jsonl": ("", "\n", "\n"),
        "csv": ("question,answer\n", "\n", "\n"),
        "json": ("[", ",\n", "]"),
    }[kind]
    with open(path, "w") as file:
        file.write(head)
        for i in range(rows):
            row = f'"{question(i)}",{i}' if kind == "csv" else json.dumps({"question": question(i), "answer": str(i)})
            file.write((separator if i else "") + row)
        file.write(tail)
    return path
