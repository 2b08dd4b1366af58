"""Reading a stage's directory: columns, refusals, and memory that stays small."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from ledger_small import fill, items, opened

from sq.core.errors import LedgerError
from sq.core.ledger import Ledger, read_rejects, read_rows


def test_reading_selects_columns_and_names_unknown_ones(tmp_path: Path) -> None:
    fill(tmp_path, count=2)
    assert list(read_rows(tmp_path, ["n", "id"])) == [{"n": 0, "id": "k0"}, {"n": 1, "id": "k1"}]
    with pytest.raises(LedgerError, match="has no column 'idd', did you mean 'id'. Its columns: id, n"):
        read_rows(tmp_path, ["idd"])
    with pytest.raises(LedgerError, match="has no column 'text'; Its columns: id, key, reason, detail, row"):
        read_rejects(tmp_path, ["text"])


def test_reading_refuses_what_is_not_a_finished_stage(tmp_path: Path) -> None:
    with opened(tmp_path / "begun") as ledger:
        for item in ledger.todo(items(10)):
            if item.payload != 5:
                ledger.record(item.key, [{"id": item.key}])
        with pytest.raises(LedgerError, match="begun is not finished: 6 items are committed so far"):
            read_rows(tmp_path / "begun")
        so_far = [row["id"] for row in read_rows(tmp_path / "begun", unfinished=True)]
        assert so_far == ["k0", "k1", "k2", "k3", "k8", "k9"]
    with pytest.raises(LedgerError, match="nowhere is not a directory"):
        read_rows(tmp_path / "nowhere")
    with pytest.raises(LedgerError, match="holds no manifest.json: it is not a stage's output"):
        read_rows(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(LedgerError, match="manifest.json is damaged, or of another program"):
        read_rows(tmp_path)


READ_THEM = """
import sys
from sq.core.ledger import read_rows
count = total = 0
for row in read_rows(sys.argv[1]):
    count += 1
    total += row["n"]
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(count, total, int(peak.split()[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_a_pass_over_half_a_million_rows_holds_less_than_300_mb(tmp_path: Path) -> None:
    schema = pa.schema(
        [("id", pa.string()), ("n", pa.int64()), ("question", pa.string()), ("parents", pa.list_(pa.string()))]
    )
    words = random.Random(1).choices([f"word{i}" for i in range(5000)], k=4000)
    with Ledger.open(tmp_path, schema=schema, config={}, part_size=10) as ledger:
        for item in ledger.todo(items(100)):
            numbers = range(item.payload * 5000, item.payload * 5000 + 5000)
            rows = [
                {
                    "id": f"{n:032x}",
                    "n": n,
                    "question": " ".join(words[n % 3900 : n % 3900 + 40]),
                    "parents": [f"{n:032x}"],
                }
                for n in numbers
            ]
            ledger.record(item.key, rows)
        ledger.finish()
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", READ_THEM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": root})
    count, total, peak = map(int, done.stdout.split())
    assert (count, total) == (500_000, 124_999_750_000)
    assert peak < 300
