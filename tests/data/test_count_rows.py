"""About how many rows a source has, without reading them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sq.core.ledger import Ledger, Reject, WorkItem
from sq.data.count_rows import count_rows
from sq.data.sources import DOMAIN_ROWS, SourceConfig


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Each with 30 rows; the stage made its of 12 items."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"q{i}"} for i in range(30)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.csv").write_text("question\n" + "".join(f"q{i}\n" for i in range(30)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with Ledger.open(tmp_path / "stage", schema=pa.schema([pa.field("id", pa.string())]), config={}) as ledger:
        for i, item in enumerate(list(ledger.todo([WorkItem(str(i)) for i in range(12)]))):
            made = [{"id": f"{i}-{j}"} for j in range(3)]
            ledger.record(item.key, made if i < 10 else [], [] if i < 10 else [Reject(row={}, reason="x")])
        ledger.finish()


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({"input": "a.jsonl"}, 30),
        ({"input": "a.csv"}, 30),
        ({"input": "a.csv", "header": False}, 31),
        ({"input": "a.parquet"}, 30),
        ({"input": "a.json"}, None),
        ({"input": "*.jsonl", "limit": 7}, 7),
        ({"input": "stage"}, 30),
        ({"input": "stage", "limit": 100}, 30),
        ({"input": "domain"}, DOMAIN_ROWS),
        ({"limit": 5}, 5),
        ({"input": "a/hub-dataset"}, None),
        ({"mix": {"a.jsonl": 1, "a.csv": 2}}, 60),
        ({"mix": {"a.jsonl": 1, "a.json": 2}}, None),
    ],
)
def test_rows_are_counted_by_metadata_and_line_ends(files, given, count):
    assert count_rows(SourceConfig(**given)) == count


def test_groups_are_the_items_that_a_stage_made_its_rows_of(files):
    assert count_rows(SourceConfig(input="stage"), groups=True) == 12
    assert count_rows(SourceConfig(input="a.jsonl"), groups=True) is None
