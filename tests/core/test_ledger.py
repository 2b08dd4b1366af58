"""The ledger in ordinary use: what it keeps, in which order, what it refuses and how it says so."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ledger_small import SCHEMA, fill, items, opened

from sq.core.errors import LedgerError
from sq.core.ledger import Reject, WorkItem, read_manifest, read_rejects, read_rows

pytestmark = pytest.mark.usefixtures("without_waiting_for_the_disk")


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


def test_continuing_gives_out_only_what_has_no_result(tmp_path: Path) -> None:
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

    def endless() -> Iterator[WorkItem]:
        for i in range(10**9):
            taken.append(i)
            yield WorkItem(f"k{i}", i)

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


def test_one_result_per_item(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        todo = ledger.todo(items(5))
        next(todo)
        ledger.record("k0")
        for key in ("k0", "k1", "else"):
            with pytest.raises(LedgerError, match=f"item '{key}' does not wait for a result"):
                ledger.record(key)
        for _ in range(3):
            ledger.record(next(todo).key)
        with pytest.raises(LedgerError, match="item 'k3' does not wait"):
            ledger.record("k3")  # its part is committed


@pytest.mark.parametrize("second", [1, 9, 4000])
def test_a_key_that_comes_twice_is_named(tmp_path: Path, second: int) -> None:
    keys = [f"k{i}" for i in range(second)] + ["k0"]
    with opened(tmp_path, part_size=100) as ledger, pytest.raises(LedgerError, match="the item key 'k0' comes twice"):
        for item in ledger.todo(WorkItem(key) for key in keys):
            ledger.record(item.key)


@pytest.mark.parametrize("key", ["", 7, None])
def test_a_key_is_a_text(tmp_path: Path, key: Any) -> None:
    with opened(tmp_path) as ledger, pytest.raises(LedgerError, match="key must be a text, not"):
        list(ledger.todo([WorkItem(key)]))


def test_finish_wants_every_item_and_the_whole_input(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        with pytest.raises(LedgerError, match=r"finish\(\) before todo\(\) was read to its end"):
            ledger.finish()
        todo = ledger.todo(items(6))
        ledger.record(next(todo).key)
        with pytest.raises(LedgerError, match=r"finish\(\) before todo\(\) was read to its end"):
            ledger.finish()
        list(todo)
        with pytest.raises(LedgerError, match="5 items have no result, the first of them 'k1'"):
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
    with pytest.raises(LedgerError, match="column n: int64 there, double now"):
        fill(tmp_path, schema=pa.schema([SCHEMA.field("id"), ("n", pa.float64())]))
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
        list(ledger.todo([WorkItem("k1"), WorkItem("k0"), WorkItem("k2"), WorkItem("k3")]))


def test_an_input_whose_keys_are_cut_elsewhere_is_another(tmp_path: Path) -> None:
    for name, keys in (("a", ["ab", "c"]), ("b", ["a", "bc"])):
        with opened(tmp_path / name) as ledger:
            for item in ledger.todo(WorkItem(key) for key in keys):
                ledger.record(item.key, [{"id": "x"}])
            ledger.finish()
    parts = [read_manifest(tmp_path / name).parts[0] for name in ("a", "b")]
    assert parts[0].keys != parts[1].keys and parts[0].content == parts[1].content


def test_many_threads_may_record(tmp_path: Path) -> None:
    with opened(tmp_path, part_size=7) as ledger:
        todo = ledger.todo(items(200))
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
        assert ledger.finish().items == 200
    assert [row["n"] for row in read_rows(tmp_path)] == list(range(200))


def test_the_error_that_ended_the_work_is_the_one_reported(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opened(tmp_path) as ledger:
        ledger.record(next(ledger.todo(items(2))).key)
        raise ZeroDivisionError
    with opened(tmp_path) as ledger:
        assert [item.key for item in ledger.todo(items(2))] == ["k1"]
