"""Values of every type: checked when they are recorded, and the same when they come back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ledger_small import items, opened

from sq.core.errors import LedgerError
from sq.core.ledger import read_rows

pytestmark = pytest.mark.usefixtures("without_waiting_for_the_disk")


def one(directory: Path, schema: pa.Schema, row: dict[str, Any]) -> dict[str, Any]:
    """Record one row, twice over: committed at once, and from the journal of an earlier run."""
    with opened(directory / "at-once", schema=schema) as ledger:
        for item in ledger.todo(items(1)):
            ledger.record(item.key, [row])
        ledger.finish()
    with opened(directory / "later", schema=schema) as ledger:
        next(iter(ledger.todo(items(2))))
        ledger.record("k0", [row])
    with opened(directory / "later", schema=schema) as ledger:
        for item in ledger.todo(items(2)):
            assert item.key == "k1"
            ledger.record(item.key)
        ledger.finish()
    (first,), (second,) = read_rows(directory / "at-once"), read_rows(directory / "later")
    assert repr(first) == repr(second)
    return first


VALUES = pa.schema(
    [
        ("text", pa.string()), ("i", pa.int64()), ("x", pa.float64()), ("yes", pa.bool_()),
        ("texts", pa.list_(pa.string())), ("deep", pa.list_(pa.list_(pa.float64()))),
    ]
)  # fmt: skip


def test_values_come_back_exactly(tmp_path: Path) -> None:
    row = {
        "text": "π ≈ 3, \x00 \n \r \u2028 \U0001f9ee {}\\boxed{½}\"'", "i": -(2**63), "x": 5e-324, "yes": False,
        "texts": ["", "a", None], "deep": [[], [0.1, -0.0], None],
    }  # fmt: skip
    assert repr(one(tmp_path, VALUES, row)) == repr(row)


def test_missing_nullable_columns_become_null(tmp_path: Path) -> None:
    assert one(tmp_path, VALUES, {"i": 1}) == dict.fromkeys(VALUES.names) | {"i": 1}


@pytest.mark.parametrize("x", [math.inf, -math.inf, math.nan, -0.0, 1e308, 0.1 + 0.2, 1 / 3])
def test_floats_come_back_exactly(tmp_path: Path, x: float) -> None:
    assert repr(one(tmp_path, pa.schema([("x", pa.float64())]), {"x": x})["x"]) == repr(x)


def test_numpy_values_tuples_and_whole_numbers_are_taken(tmp_path: Path) -> None:
    row = {"i": np.int32(3), "x": 2, "yes": np.bool_(True), "texts": ("a",), "deep": np.eye(2)}
    found = one(tmp_path, VALUES, row)
    assert (found["i"], found["x"], found["yes"], found["texts"]) == (3, 2.0, True, ["a"])
    assert found["deep"] == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"n": 1}, "item 'k0': column 'id' is missing"),
        ({"id": None}, "item 'k0': column 'id' is null"),
        ({"id": 7}, "item 'k0': column 'id': 7 .int. is not a string"),
        ({"id": "a", "n": "7"}, "item 'k0': column 'n': '7' .str. is not an integer"),
        ({"id": "a", "n": 7.0}, "column 'n': 7.0 .float. is not an integer"),
        ({"id": "a", "n": True}, "column 'n': True .bool. is not an integer"),
        ({"id": "a", "n": 2**63}, "column 'n': 9223372036854775808 .int. is not in the range of int64"),
        ({"id": "a", "m": 1, "n": 1}, "the schema has no column 'm'; its columns: id, n"),
        ({"id": "\ud800"}, "column 'id': .* surrogates not allowed"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_when_it_is_recorded(tmp_path: Path, row: Any, message: str) -> None:
    with opened(tmp_path) as ledger:
        todo = ledger.todo(items(4))
        next(todo)
        with pytest.raises(LedgerError, match=message):
            ledger.record("k0", [{"id": "fine"}, row])
        ledger.record("k0", [{"id": "fixed"}])  # nothing of the refused result was kept
        for item in todo:
            ledger.record(item.key)
        assert ledger.finish().rows == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"x": "1"}, "column 'x': '1' .str. is not a number"),
        ({"x": 2**53 + 1}, "column 'x': 9007199254740993 .int. is not a number that a float holds exactly"),
        ({"yes": 1}, "column 'yes': 1 .int. is not true or false"),
        ({"texts": "text"}, "column 'texts': 'text' .str. is not a list"),
        ({"texts": ["a", 1]}, "column 'texts': 1 .int. is not a string"),
    ],
)
def test_each_type_refuses_what_it_cannot_hold(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with opened(tmp_path, schema=VALUES) as ledger:
        next(ledger.todo(items(1)))
        with pytest.raises(LedgerError, match=message):
            ledger.record("k0", [row])


def test_nulls_inside_are_refused_where_the_schema_says_so(tmp_path: Path) -> None:
    schema = pa.schema([("l", pa.list_(pa.field("item", pa.string(), nullable=False)))])
    with opened(tmp_path, schema=schema) as ledger:
        next(ledger.todo(items(1)))
        with pytest.raises(LedgerError, match="column 'l': an item in it is null"):
            ledger.record("k0", [{"l": [None]}])


def test_a_schema_that_cannot_be_kept_is_refused_before_any_work(tmp_path: Path) -> None:
    for kind in (pa.timestamp("s"), pa.float32(), pa.binary(), pa.list_(pa.struct([("a", pa.int64())]))):
        with pytest.raises(LedgerError, match="has the type .*, which a ledger does not keep; it keeps string, int64"):
            opened(tmp_path / "new", schema=pa.schema([("column", kind)]))
    with pytest.raises(LedgerError, match="two columns of one name: a, a"):
        opened(tmp_path / "new", schema=pa.schema([("a", pa.string()), ("a", pa.string())]))
    assert not (tmp_path / "new").exists()
