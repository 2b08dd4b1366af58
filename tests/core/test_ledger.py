"""The ledger in ordinary use: what it keeps, in which order, what it refuses and how it says so."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sq.core.errors import LedgerError
from sq.core.ledger import Item, Ledger, Reject, Summary, read_manifest, read_rejects, read_rows

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64())])


def opened(directory: Path, config: dict[str, Any] | None = None, schema: pa.Schema = SCHEMA, **more: Any) -> Ledger:
    return Ledger.open(directory, schema=schema, config=config or {"seed": 1}, **({"part_size": 4} | more))


def items(count: int) -> Iterator[Item]:
    return (Item(f"k{i}", i) for i in range(count))


def fill(directory: Path, count: int = 10, **more: Any) -> Summary:
    with opened(directory, **more) as ledger:
        for item in ledger.todo(items(count)):
            ledger.record(item.key, [{"id": item.key, "n": item.payload}])
        return ledger.finish()


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


def test_rows_come_in_item_order_whatever_the_order_of_answers(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        waiting = list(ledger.todo(items(10)))
        random.Random(1).shuffle(waiting)
        for item in waiting:
            rows = [{"id": f"{item.key}.{i}", "n": i} for i in range(item.payload % 3)]
            ledger.record(item.key, rows, [Reject({"id": item.key}, "none", "nothing came")] if not rows else [])
        summary = ledger.finish()
    expected = [f"k{i}.{j}" for i in range(10) for j in range(i % 3)]
    assert [row["id"] for row in read_rows(tmp_path)] == expected
    assert [reject["key"] for reject in read_rejects(tmp_path)] == ["k0", "k3", "k6", "k9"]
    assert (summary.items, summary.rows, summary.rejects, summary.reasons) == (10, 9, 4, {"none": 4})
    assert (summary.parts, summary.computed, summary.resumed) == (3, 10, 0)
    assert summary.digest == read_manifest(tmp_path).digest


def test_a_finished_directory_holds_parts_rejects_and_manifest_only(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        for item in ledger.todo(items(9)):
            bad = [Reject({"q": "?"}, "empty")] if item.payload == 5 else []
            ledger.record(item.key, [{"id": item.key}], bad)
            assert item.payload in (3, 7, 8) or any(p.name.startswith("journal-") for p in tmp_path.iterdir())
        ledger.finish()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "manifest.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet", "rejects-00001.parquet",
    ]  # fmt: skip
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [part["rows"] for part in manifest["parts"]] == [4, 4, 1]
    assert pq.read_table(tmp_path / "part-00002.parquet").to_pylist() == [{"id": "k8", "n": None}]
    assert list(read_rejects(tmp_path)) == [
        {"id": None, "key": "k5", "reason": "empty", "detail": "", "row": '{"q": "?"}'}
    ]


def test_the_same_work_gives_the_same_bytes_and_digest_anywhere(tmp_path: Path) -> None:
    assert fill(tmp_path / "a") == fill(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert fill(tmp_path / "c", count=9).digest != fill(tmp_path / "d").digest


def test_running_again_computes_nothing(tmp_path: Path) -> None:
    first = fill(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with opened(tmp_path) as ledger:
        assert list(ledger.todo(items(10))) == []
        again = ledger.finish()
    assert (again.computed, again.resumed, again.digest) == (0, 10, first.digest)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with opened(tmp_path) as ledger:  # a caller who knows that it is finished need not read the input
        assert ledger.finish() == again


def test_continuing_gives_out_only_what_has_no_outcome(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        for item in ledger.todo(items(10)):
            if item.payload in (1, 2, 4, 5, 6, 7, 9):
                ledger.record(item.key, [{"id": item.key}])
    with opened(tmp_path, part_size=100) as ledger:  # the ledger keeps the size it was made with
        rest = [item.key for item in ledger.todo(items(10))]
        assert rest == ["k0", "k3", "k8"]
        for key in rest:
            ledger.record(key, [{"id": key}])
        summary = ledger.finish()
    assert (summary.items, summary.computed, summary.resumed, summary.parts) == (10, 3, 7, 3)
    assert [row["id"] for row in read_rows(tmp_path)] == [f"k{i}" for i in range(10)]


def test_the_input_is_read_a_part_ahead_at_most(tmp_path: Path) -> None:
    taken = []

    def endless() -> Iterator[Item]:
        for i in range(10**9):
            taken.append(i)
            yield Item(f"k{i}", i)

    with opened(tmp_path) as ledger:
        todo = ledger.todo(endless())
        for _ in range(9):
            next(todo)
        assert len(taken) == 12


def test_an_empty_input_is_a_finished_ledger(tmp_path: Path) -> None:
    assert fill(tmp_path, count=0).items == 0
    assert list(read_rows(tmp_path)) == [] and list(read_rejects(tmp_path)) == []
    with opened(tmp_path) as ledger, pytest.raises(LedgerError, match="from number 0 on are not those"):
        list(ledger.todo(items(1)))


VALUES = pa.schema(
    [
        ("text", pa.string()), ("long", pa.large_string()), ("i", pa.int64()), ("small", pa.int8()), ("u", pa.uint64()),
        ("x", pa.float64()), ("f", pa.float32()), ("yes", pa.bool_()), ("raw", pa.binary()),
        ("texts", pa.list_(pa.string())), ("raws", pa.list_(pa.binary())), ("deep", pa.list_(pa.list_(pa.float64()))),
        ("group", pa.struct([("a", pa.int64()), ("b", pa.struct([("raw", pa.binary()), ("n", pa.float32())]))])),
    ]
)  # fmt: skip


def test_values_come_back_exactly(tmp_path: Path) -> None:
    row = {
        "text": "π ≈ 3, \x00 \n \r \u2028 \U0001f9ee {}\\boxed{½}\"'", "long": "", "i": -(2**63), "small": 127,
        "u": 2**64 - 1, "x": 5e-324, "f": float(np.float32(0.1)), "yes": False, "raw": bytes(range(256)),
        "texts": ["", "a", None], "raws": [b"\xff", None, b""], "deep": [[], [0.1, -0.0], None],
        "group": {"a": None, "b": {"raw": b"\n\xfe", "n": 1.5}},
    }  # fmt: skip
    assert repr(one(tmp_path, VALUES, row)) == repr(row)


def test_missing_nullable_columns_and_groups_become_null(tmp_path: Path) -> None:
    assert one(tmp_path, VALUES, {"group": {"b": None}}) == dict.fromkeys(VALUES.names) | {
        "group": {"a": None, "b": None}
    }


@pytest.mark.parametrize("x", [math.inf, -math.inf, math.nan, -0.0, 1e308, 0.1 + 0.2, 1 / 3])
def test_floats_come_back_exactly(tmp_path: Path, x: float) -> None:
    assert repr(one(tmp_path, pa.schema([("x", pa.float64())]), {"x": x})["x"]) == repr(x)


def test_numpy_values_tuples_and_whole_numbers_are_taken(tmp_path: Path) -> None:
    row = {"i": np.int32(3), "x": 2, "f": np.float32(0.1), "yes": np.bool_(True), "texts": ("a",), "deep": np.eye(2)}
    found = one(tmp_path, VALUES, row)
    assert (found["i"], found["x"], found["yes"], found["texts"]) == (3, 2.0, True, ["a"])
    assert found["f"] == float(np.float32(0.1)) and found["deep"] == [[1.0, 0.0], [0.0, 1.0]]


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
        ledger.record("k0", [{"id": "mended"}])  # nothing of the refused outcome was kept
        for item in todo:
            ledger.record(item.key)
        assert ledger.finish().rows == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"x": "1"}, "column 'x': '1' .str. is not a number"),
        ({"x": 2**53 + 1}, "column 'x': 9007199254740993 .int. is not a number that a float holds exactly"),
        ({"f": 1e39}, "column 'f': 1e.39 .float. is not in the range of float32"),
        ({"yes": 1}, "column 'yes': 1 .int. is not true or false"),
        ({"raw": "text"}, "column 'raw': 'text' .str. is not bytes"),
        ({"texts": "text"}, "column 'texts': 'text' .str. is not a list"),
        ({"texts": ["a", 1]}, "column 'texts': 1 .int. is not a string"),
        ({"group": {"c": 1}}, "column 'group': it has no 'c'; it has a, b"),
        ({"group": [1]}, "column 'group': .1. .list. is not a group of values"),
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
        with pytest.raises(LedgerError, match="column 'l': 'item' in it is null"):
            ledger.record("k0", [{"l": [None]}])


def test_a_schema_that_cannot_be_kept_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="column 'when' has the type timestamp.s., which a ledger does not keep"):
        opened(tmp_path / "new", schema=pa.schema([("when", pa.timestamp("s"))]))
    with pytest.raises(LedgerError, match="two columns of one name: a, a"):
        opened(tmp_path / "new", schema=pa.schema([("a", pa.string()), ("a", pa.string())]))
    assert not (tmp_path / "new").exists()


def test_rows_are_kept_as_they_were_when_recorded(tmp_path: Path) -> None:
    schema = pa.schema([("l", pa.list_(pa.int64()))])
    with opened(tmp_path, schema=schema) as ledger:
        row = {"l": [1]}
        for item in ledger.todo(items(4)):
            ledger.record(item.key, [row])
            row["l"].append(2)
        ledger.finish()
    assert [len(row["l"]) for row in read_rows(tmp_path)] == [1, 2, 3, 4]


def test_any_row_can_be_rejected(tmp_path: Path) -> None:
    row = {"id": 7, "bad": "\ud800π", "x": np.float32(0.5), "raw": b"\xff", "path": Path("p"), "l": np.arange(2)}
    with opened(tmp_path) as ledger:
        for item in ledger.todo(items(1)):
            ledger.record(item.key, rejects=[Reject(row, "surrogate", "in \ud800"), Reject({"π": 1}, "other")])
        ledger.finish()
    first, second = read_rejects(tmp_path)
    assert (first["id"], first["detail"], second["row"]) == ("7", "in \\ud800", '{"π": 1}')
    wanted = {"id": 7, "bad": "\ud800π", "x": 0.5, "raw": "\\xff", "path": "p", "l": [0, 1]}
    assert json.loads(first["row"]) == wanted


def test_a_reject_without_a_reason_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        next(ledger.todo(items(1)))
        with pytest.raises(LedgerError, match="item 'k0': a reject needs a reason"):
            ledger.record("k0", rejects=[Reject({}, "")])
        with pytest.raises(LedgerError, match="item 'k0': the rejected row cannot be kept as JSON"):
            ledger.record("k0", rejects=[Reject({("a",): 1}, "odd")])


def test_one_outcome_per_item(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        todo = ledger.todo(items(5))
        next(todo)
        ledger.record("k0")
        for key in ("k0", "k1", "else"):
            with pytest.raises(LedgerError, match=f"item '{key}' does not wait for an outcome"):
                ledger.record(key)
        for _ in range(3):
            ledger.record(next(todo).key)
        with pytest.raises(LedgerError, match="item 'k3' does not wait"):
            ledger.record("k3")  # its part is committed


@pytest.mark.parametrize("second", [1, 9, 4000])
def test_a_key_that_comes_twice_is_named(tmp_path: Path, second: int) -> None:
    keys = [f"k{i}" for i in range(second)] + ["k0"]
    with opened(tmp_path, part_size=100) as ledger, pytest.raises(LedgerError, match="the item key 'k0' comes twice"):
        for item in ledger.todo(Item(key) for key in keys):
            ledger.record(item.key)


@pytest.mark.parametrize("key", ["", 7, None])
def test_a_key_is_a_text(tmp_path: Path, key: Any) -> None:
    with opened(tmp_path) as ledger, pytest.raises(LedgerError, match="key must be a text, not"):
        list(ledger.todo([Item(key)]))


def test_finish_wants_every_item_and_the_whole_input(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        with pytest.raises(LedgerError, match=r"finish\(\) before todo\(\) was read to its end"):
            ledger.finish()
        todo = ledger.todo(items(6))
        ledger.record(next(todo).key)
        with pytest.raises(LedgerError, match=r"finish\(\) before todo\(\) was read to its end"):
            ledger.finish()
        list(todo)
        with pytest.raises(LedgerError, match="5 items have no outcome, the first of them 'k1'"):
            ledger.finish()
        with pytest.raises(LedgerError, match=r"todo\(\) was called twice"):
            ledger.todo(items(6))
    with pytest.raises(LedgerError, match="this ledger is closed"):
        ledger.record("k1")


def test_another_config_is_refused_with_every_key_that_differs(tmp_path: Path) -> None:
    config = {"seed": 1, "sampling.temperature": 0.7, "stops": (1, 2), "gone": None}
    fill(tmp_path, config=config, inputs={"seeds": "d1"})
    fill(tmp_path, config=config | {"stops": [1, 2]}, inputs={"seeds": "d1"})
    wanted = {"seed": 2, "sampling.temperature": 0.8, "stops": [1, 2], "new": "x"}
    with pytest.raises(LedgerError) as caught:
        fill(tmp_path, config=wanted, inputs={"seeds": "d2"})
    lines = str(caught.value).splitlines()
    assert str(tmp_path) in lines[0] and "another output_dir, or delete this one" in lines[-1]
    assert set(lines[1:-1]) == {
        "  - seed: 1 there, 2 now",
        "  - sampling.temperature: 0.7 there, 0.8 now",
        "  - gone: null there, absent now",
        '  - new: absent there, "x" now',
        "  - input seeds: d1 there, d2 now",
    }


def test_another_schema_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(LedgerError, match="column n: int64 there, int32 now"):
        fill(tmp_path, schema=pa.schema([SCHEMA.field("id"), ("n", pa.int32())]))
    with pytest.raises(LedgerError, match="order of columns: id, n there, n, id now"):
        fill(tmp_path, schema=pa.schema([SCHEMA.field("n"), SCHEMA.field("id")]))


def test_a_config_that_is_no_plain_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="the configuration's path=.* cannot be kept in a manifest"):
        opened(tmp_path, config={"path": Path("x")})


def test_a_directory_where_nothing_was_computed_takes_any_config(tmp_path: Path) -> None:
    opened(tmp_path, config={"temprature": 1}).close()
    assert fill(tmp_path, config={"temperature": 1}, part_size=3).parts == 4


@pytest.mark.parametrize("first", [3, 8, 10])
@pytest.mark.parametrize("second", [3, 4, 8, 9, 10, 12, 13])
@pytest.mark.parametrize("finished", [True, False])
def test_an_input_that_grew_or_shrank_is_refused(tmp_path: Path, first: int, second: int, finished: bool) -> None:
    with opened(tmp_path) as ledger:
        for item in ledger.todo(items(first)):
            if finished or item.payload % 4 != 3:
                ledger.record(item.key)
        if finished:
            ledger.finish()
    with opened(tmp_path) as ledger:
        if first == second:
            list(ledger.todo(items(second)))
        elif finished or min(first, second) % 4 or second < first:
            with pytest.raises(LedgerError, match="the input has changed since"):
                list(ledger.todo(items(second)))


def test_an_input_in_another_order_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        next(ledger.todo(items(8)))
        ledger.record("k0")
    with opened(tmp_path) as ledger, pytest.raises(LedgerError, match="the items from number 0 on are not those"):
        list(ledger.todo([Item("k1"), Item("k0"), Item("k2"), Item("k3")]))


def test_many_threads_may_record(tmp_path: Path) -> None:
    with opened(tmp_path, part_size=7) as ledger:
        todo = ledger.todo(items(500))
        reading = threading.Lock()

        def work() -> None:
            while True:
                with reading:
                    item = next(todo, None)
                if item is None:
                    return
                ledger.record(item.key, [{"id": item.key, "n": item.payload}])

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.finish().items == 500
    assert [row["n"] for row in read_rows(tmp_path)] == list(range(500))


def test_the_error_that_ended_the_work_is_the_one_reported(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opened(tmp_path) as ledger:
        ledger.record(next(ledger.todo(items(2))).key)
        raise ZeroDivisionError
    with opened(tmp_path) as ledger:
        assert [item.key for item in ledger.todo(items(2))] == ["k1"]


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


READ_A_MILLION = """
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
def test_a_pass_over_a_million_rows_holds_less_than_300_mb(tmp_path: Path) -> None:
    schema = pa.schema(
        [("id", pa.string()), ("n", pa.int64()), ("question", pa.string()), ("parents", pa.list_(pa.string()))]
    )
    words = random.Random(1).choices([f"word{i}" for i in range(5000)], k=4000)
    with Ledger.open(tmp_path, schema=schema, config={}, part_size=10) as ledger:
        for item in ledger.todo(items(200)):
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
    command = [sys.executable, "-c", READ_A_MILLION, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": root})
    count, total, peak = map(int, done.stdout.split())
    assert (count, total) == (1_000_000, 499_999_500_000)
    assert peak < 300
