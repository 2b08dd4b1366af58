"""Files with random damage, of every format: each line is a row or a reject, or the file ends in one error."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_files import GOODS, LINES, put, read

from sq.core.errors import RowError
from sq.core.rows import QUESTION, check_row, fit_row

MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 10**6), st.integers(0, 12), st.binary(max_size=6) | st.sampled_from([b'"', b"\n", b",", b"\x00"])
    ),
    min_size=1,
    max_size=12,
)


def mutated(data, mutations):
    data = bytearray(data)
    for place, length, new in mutations:
        at = place % (len(data) + 1)
        data[at : at + length] = new
    return bytes(data)


@given(mutations=MUTATIONS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_jsonl_accounts_for_every_line(tmp_path, mutations):
    data = mutated(b"\n".join(LINES[:40]), mutations)
    rejects = []
    try:
        rows = read(put(tmp_path, data), rejects)
    except RowError:
        return
    lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    assert len(rows) + len(rejects) == len(lines)
    assert len({r["id"] for r in rows}) == len(rows)
    assert all(check_row(fit_row(r, QUESTION), QUESTION) == [] for r in rows)
    assert sorted([r["source_row"] for r in rows] + [r.line for r in rejects]) == [
        n for n, line in enumerate(data.split(b"\n"), 1) if line.strip()
    ]


@given(mutations=MUTATIONS, kind=st.sampled_from(["csv", "tsv", "json", "jsonl.gz", "parquet", "pretty.json"]))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_files_of_any_kind_give_rows_rejects_or_a_row_error(tmp_path, mutations, kind):
    rejects = []
    path = put(tmp_path, mutated(CLEAN[kind], mutations), f"a.{kind}")
    try:
        rows = read(path, rejects)
    except RowError as error:
        assert str(error)
        return
    assert len(rows) + len(rejects) > 0
    assert len({r["id"] for r in rows}) == len(rows)
    assert all(check_row(fit_row(r, QUESTION), QUESTION) == [] for r in rows)
    if kind == "jsonl.gz" or len(rows) < 30:
        assert len(rows) == 40 or rejects


def _parquet():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(GOODS[:40]), sink, row_group_size=10)
    return sink.getvalue().to_pybytes()


CLEAN = {
    "csv": b"question,answer\r\n" + b"".join(b'"What is\n%d, and?",%d\r\n' % (i, i) for i in range(40)),
    "tsv": b"question\tanswer\n" + b"".join(b'What "is" %d?\t%d\n' % (i, i) for i in range(40)),
    "json": json.dumps(GOODS[:40]).encode(),
    "pretty.json": json.dumps(GOODS[:40], indent=1).encode(),
    "jsonl.gz": gzip.compress(b"\n".join(LINES[:40])),
    "parquet": _parquet(),
}
