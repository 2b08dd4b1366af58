"""Real data sets, where they are: how many rows each gives."""

from pathlib import Path

import pytest

from sq.core.errors import RowError
from sq.core.rows import QUESTION, check_row, fit_row
from sq.data.sources import SourceConfig, read_source

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not beside this checkout")


def read(path, need=QUESTION, rejects=None, **settings):
    return list(read_source(SourceConfig(input=str(path), **settings), need, rejects))


@pytest.mark.parametrize(
    ("name", "count", "answered"),
    [("gsm8k_train.jsonl", 7473, 7473), ("math_train.jsonl", 7500, 7498), ("math500_test.jsonl", 500, 500)]
    + [("college_math_test.jsonl", 2818, 2818), ("olympiadbench_OE_TO_maths_en_COMP.jsonl", 675, 675)],
)
def test_real_data(name, count, answered):
    rejects = []
    rows = read(DATA / name, rejects=rejects)
    assert (len(rows), rejects) == (count, [])
    assert len({r["id"] for r in rows}) == count
    assert sum(bool(r.get("answer")) for r in rows) == answered
    assert all(check_row(fit_row(r, QUESTION), QUESTION) == [] for r in rows[::50])
    if name == "gsm8k_train.jsonl":
        assert all(r["solution"] and "####" not in r["solution"] + r["answer"] for r in rows)
    if name == "math_train.jsonl":
        assert {r["type"] for r in rows} >= {"Algebra", "Geometry"} and rows[0]["level"].startswith("Level")


def test_real_tab_separated_data_without_a_header():
    with pytest.raises(RowError, match="no column 'question'.*header=false"):
        read(DATA / "mgsm_es.tsv")
    rows = read(DATA / "mgsm_es.tsv", header=False, columns={"question": "0", "answer": "1"})
    assert len(rows) == 250 and rows[0]["answer"] == "18" and sum('"' in r["question"] for r in rows) == 1
