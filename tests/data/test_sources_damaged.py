"""JSON documents and Parquet files that are damaged: what is broken costs itself alone, or the file is refused."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import GOODS, put, read

from sq.core.errors import RowError


def test_parquet_rows_that_are_not_utf8(tmp_path):
    texts = pa.array([b"good?", b"caf\xe9", b"fine?"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    pq.write_table(pa.table({"question": text}), tmp_path / "a.parquet")
    rejects = []
    assert [r["question"] for r in read(tmp_path / "a.parquet", rejects)] == ["good?", "fine?"]
    assert [(r.line, r.unit, r.reason) for r in rejects] == [(2, "row", "invalid_utf8")]


def test_a_damaged_row_group_costs_its_rows_alone(tmp_path):
    path = tmp_path / "a.parquet"
    noise = random.Random(0)
    table = pa.table({"question": [f"{i}? {noise.random()}" for i in range(3000)]})
    pq.write_table(table, path, row_group_size=1000, use_dictionary=False, compression="zstd", write_page_checksum=True)
    at = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[at + 300 : at + 3000] = bytes(2700)
    path.write_bytes(data)
    rejects = []
    rows = read(path, rejects)
    assert [r["source_row"] for r in rows] == [*range(1, 1001), *range(2001, 3001)]
    assert [r.reason for r in rejects] == ["broken_file"] and "rows 1001 to 2000" in rejects[0].detail


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
def test_a_truncated_parquet_is_refused(tmp_path, cut):
    pq.write_table(pa.table({"question": [f"{i}?" for i in range(3000)]}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(RowError, match="a.parquet cannot be read as parquet, is it cut off"):
        read(put(tmp_path, data[: int(len(data) * cut)], "a.parquet"))


@pytest.mark.parametrize("indent", [0, 2])
def test_a_broken_object_in_a_pretty_list_costs_itself_alone(tmp_path, indent):
    lines = json.dumps(GOODS, indent=indent)
    broken = lines.replace('"question": "What is 7 + 2?"', '"question": "What is 7" + 2?"').replace(
        '"answer": "102"', '"answer": 1O2'
    )
    rejects = []
    rows = read(put(tmp_path, broken, "a.json"), rejects)
    assert [r["question"] for r in rows] == [r["question"] for i, r in enumerate(GOODS) if i not in (7, 100)]
    assert [(r.line, r.unit, r.reason) for r in rejects] == [(8, "row", "broken_json"), (101, "row", "broken_json")]
    assert "What is 7" in rejects[0].text and "What is 8" not in rejects[0].text


@pytest.mark.parametrize("end", ["", ",", "]]", "] [", '] {"question": "b"}'])
def test_a_list_that_does_not_end_well_keeps_its_rows_and_says_so(tmp_path, end):
    rejects = []
    assert len(read(put(tmp_path, json.dumps(GOODS)[:-1] + end, "a.json"), rejects)) == 200
    assert len(rejects) == 1 and rejects[0].line == 201


def test_objects_in_a_list_that_are_none(tmp_path):
    rejects = []
    assert len(read(put(tmp_path, '[1, {"question": "a"}, null, "x", {"question": ""},]', "a.json"), rejects)) == 1
    assert [(r.line, r.reason) for r in rejects] == [
        (1, "not_an_object"), (3, "not_an_object"), (4, "not_an_object"), (5, "empty_text"),
    ]  # fmt: skip


def test_json_lists_larger_than_a_chunk_are_streamed(tmp_path):
    big = [{"question": f"{i} " + "é" * (i * 40 % 300_000)} for i in range(500)]
    assert [r["question"] for r in read(put(tmp_path, json.dumps(big, ensure_ascii=False), "a.json"))] == [
        r["question"] for r in big
    ]
