"""A million rows stream in bounded memory, from every format that can be large."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 1_000_000
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
def test_a_million_rows_hold_under_300_megabytes(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        schema = pa.schema([("question", pa.string()), ("answer", pa.string())])
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, ROWS, 100_000):
                block = range(start, start + 100_000)
                writer.write_table(pa.table([[question(i) for i in block], [str(i) for i in block]], schema=schema))
    else:
        head, separator, tail = {
            "jsonl": ("", "\n", "\n"),
            "csv": ("question,answer\n", "\n", "\n"),
            "json": ("[", ",\n", "]"),
        }[kind]
        with open(path, "w") as file:
            file.write(head)
            for i in range(ROWS):
                row = (
                    f'"{question(i)}",{i}' if kind == "csv" else json.dumps({"question": question(i), "answer": str(i)})
                )
                file.write((separator if i else "") + row)
            file.write(tail)
    out = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    count, megabytes = map(int, out.stdout.split())
    assert count == ROWS
    assert megabytes < 300, f"{kind}: {megabytes} MB"
