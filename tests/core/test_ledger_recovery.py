"""Damage to a ledger's files: found, fixed, and only what was damaged is computed again."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sq.core.errors import LedgerError
from sq.core.ledger import Ledger, Reject, WorkItem, read_manifest, read_rejects, read_rows

pytestmark = pytest.mark.usefixtures("without_waiting_for_the_disk")

SCHEMA = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("x", pa.float64()), pa.field("b", pa.list_(pa.bool_()))]
)
COUNT = 14  # parts of 4, the last of 2


def opened(directory: Path, seed: int = 1, part_size: int = 4, read: str = "d") -> Ledger:
    return Ledger.open(directory, schema=SCHEMA, config={"seed": seed}, inputs={"in": read}, part_size=part_size)


def items() -> Iterator[WorkItem]:
    return (WorkItem(f"k{i}", i) for i in range(COUNT))


def compute(ledger: Ledger, only: Callable[[int], bool] = lambda i: True) -> list[int]:
    """Record the results of the items for which `only` holds; the numbers of those."""
    done = []
    for item in ledger.todo(items()):
        i = item.payload
        if only(i):
            rows = [{"id": f"k{i}.{j}", "x": i / 7, "b": [i > 1, None]} for j in range(2)]
            ledger.record(item.key, rows, [Reject({"id": f"r{i}"}, "odd", "an odd one")] if i % 4 == 1 else [])
            done.append(i)
    return done


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def again(directory: Path) -> list[int]:
    """Run the same command again: what was computed."""
    with opened(directory) as ledger:
        computed = compute(ledger)
        summary = ledger.finish()
    assert (summary.items, summary.computed, summary.resumed) == (COUNT, len(computed), COUNT - len(computed))
    return computed


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished ledger, with a sound copy in `reference`."""
    again(tmp_path / "ledger")
    shutil.copytree(tmp_path / "ledger", tmp_path / "reference")
    return tmp_path / "ledger"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("part-00001.parquet", lambda path: os.truncate(path, path.stat().st_size // 2)),
        ("part-00001.parquet", lambda path: os.truncate(path, 0)),
        ("part-00001.parquet", os.unlink),
        ("part-00001.parquet", lambda path: path.write_bytes(path.read_bytes() + b"\0")),
        ("part-00001.parquet", lambda path: shutil.copy(path.with_name("part-00002.parquet"), path)),
        ("rejects-00001.parquet", lambda path: os.truncate(path, 7)),
        ("rejects-00001.parquet", os.unlink),
    ],
)
def test_only_a_damaged_part_is_computed_again(
    finished: Path, name: str, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    harm(finished / name)
    with pytest.raises(LedgerError, match=rf"{name} (is not as it was written|is missing).*only that part"):
        list(read_rows(finished) if name.startswith("part") else read_rejects(finished))
        list(read_rows(finished))
    assert again(finished) == [4, 5, 6, 7]
    assert contents(finished) == contents(finished.with_name("reference"))
    (warning,) = caplog.messages
    assert name in warning and "computed again: its 4 items" in warning and "\n" not in warning


def test_a_flipped_bit_anywhere_in_a_part_is_found(finished: Path) -> None:
    path = finished / "part-00002.parquet"
    sound = path.read_bytes()
    for at in range(0, len(sound), 37):
        flip(path, at)
        with pytest.raises(LedgerError, match="part-00002.parquet is not as it was written"):
            list(read_rows(finished))
        path.write_bytes(sound)
    flip(path, len(sound) // 2)
    assert again(finished) == [8, 9, 10, 11]
    assert contents(finished) == contents(finished.with_name("reference"))


def test_reading_without_verifying_still_names_a_broken_file(finished: Path) -> None:
    os.truncate(finished / "part-00000.parquet", 100)
    with pytest.raises(LedgerError, match="part-00000.parquet"):
        list(read_rows(finished, verify=False))


def test_rows_before_a_damaged_part_are_still_read(finished: Path) -> None:
    os.truncate(finished / "part-00002.parquet", 100)
    found = []
    with pytest.raises(LedgerError, match="part-00002"):
        for row in read_rows(finished):
            found.append(row["id"])
    assert found == [f"k{i}.{j}" for i in range(8) for j in range(2)]


@pytest.mark.parametrize(
    "harm", [os.unlink, lambda p: os.truncate(p, 200), lambda p: flip(p, 300), lambda p: p.write_text("")]
)
def test_a_lost_manifest_is_rebuilt_and_nothing_is_computed_again(
    finished: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    harm(finished / "manifest.json")
    with pytest.raises(LedgerError, match="manifest.json"):
        read_rows(finished)
    assert again(finished) == []
    assert contents(finished) == contents(finished.with_name("reference"))
    assert any("rebuilt from 4 parts" in message for message in caplog.messages)


def test_a_lost_manifest_amid_work_is_rebuilt_from_parts_and_journals(tmp_path: Path) -> None:
    with opened(tmp_path, part_size=4) as ledger:
        compute(ledger, lambda i: i < 9)
    os.unlink(tmp_path / "manifest.json")
    with opened(tmp_path, part_size=99) as ledger:
        assert compute(ledger) == [9, 10, 11, 12, 13]
        ledger.finish()
    again(tmp_path.with_name("reference"))
    assert contents(tmp_path) == contents(tmp_path.with_name("reference"))


def test_a_lost_manifest_with_a_damaged_part_costs_that_part(finished: Path) -> None:
    os.unlink(finished / "manifest.json")
    flip(finished / "part-00001.parquet", 300)
    os.unlink(finished / "rejects-00002.parquet")
    assert again(finished) == [4, 5, 6, 7, 8, 9, 10, 11]
    assert contents(finished) == contents(finished.with_name("reference"))


def test_a_lost_manifest_with_the_rejects_of_another_part_costs_that_part(finished: Path) -> None:
    os.unlink(finished / "manifest.json")
    shutil.copy(finished / "rejects-00001.parquet", finished / "rejects-00002.parquet")
    assert again(finished) == [8, 9, 10, 11]
    assert contents(finished) == contents(finished.with_name("reference"))


@pytest.mark.parametrize("other", [{"seed": 2}, {"read": "e"}])
def test_a_lost_manifest_of_another_config_or_input_is_not_rebuilt(finished: Path, other: dict[str, Any]) -> None:
    os.unlink(finished / "manifest.json")
    before = contents(finished)
    with pytest.raises(LedgerError, match="has lost its manifest.json, and what else it holds is of another config"):
        opened(finished, **other)
    assert contents(finished) == before
    assert again(finished) == []


def test_an_edited_manifest_is_not_believed(finished: Path) -> None:
    path = finished / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(LedgerError, match="of another configuration"):
        opened(finished, seed=2)
    assert again(finished) == []


def test_a_part_that_was_written_but_not_entered_is_taken_in(tmp_path: Path, finished: Path) -> None:
    """As after a power cut that took the journal's last lines and left the part."""
    with opened(tmp_path / "cut") as ledger:
        compute(ledger, lambda i: i < 3)
    for name in ("part-00000.parquet", "rejects-00000.parquet"):
        shutil.copy(finished / name, tmp_path / "cut" / name)
    assert again(tmp_path / "cut") == list(range(4, COUNT))
    assert contents(tmp_path / "cut") == contents(finished)


def test_a_part_of_another_configuration_is_not_taken_in(tmp_path: Path, finished: Path) -> None:
    with opened(tmp_path / "cut", seed=2) as ledger:
        compute(ledger, lambda i: i < 3)
    for name in ("part-00000.parquet", "rejects-00000.parquet"):
        shutil.copy(finished / name, tmp_path / "cut" / name)
    with opened(tmp_path / "cut", seed=2) as ledger:
        assert compute(ledger) == list(range(3, COUNT))


def test_leftovers_of_a_kill_are_cleared_away(tmp_path: Path, finished: Path) -> None:
    with opened(tmp_path / "cut") as ledger:
        compute(ledger, lambda i: i < 7)
    for name in ("part-00001.parquet.tmp", "rejects-00001.parquet", "manifest.json.tmp", "part-00001.parquet"):
        (tmp_path / "cut" / name).write_bytes(b"half")
    (tmp_path / "cut" / "journal-00000.jsonl").write_bytes(b"of a committed part\n")
    assert again(tmp_path / "cut") == list(range(7, COUNT))
    assert contents(tmp_path / "cut") == contents(finished)


def test_what_others_put_there_is_left_alone(finished: Path) -> None:
    (finished / "notes.tmp").write_text("mine")
    (finished / "card.md").write_text("mine")
    assert again(finished) == []
    assert {path.name for path in finished.iterdir()} >= {"notes.tmp", "card.md"}


def begun(directory: Path) -> Path:
    with opened(directory) as ledger:
        compute(ledger, lambda i: i < 3)
    return directory / "journal-00000.jsonl"


def test_a_journal_torn_at_any_byte_gives_back_all_whole_lines(tmp_path: Path, finished: Path) -> None:
    journal = begun(tmp_path / "torn")
    data = journal.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for size in [*range(0, len(data), 11), *ends, *(end - 1 for end in ends)]:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "torn", tmp_path / "copy")
        os.truncate(tmp_path / "copy" / journal.name, size)
        results = max(sum(end <= size for end in ends) - 1, 0)
        with opened(tmp_path / "copy") as ledger:
            todo = [item.payload for item in ledger.todo(items())]
        assert todo == list(range(results, COUNT))
    assert again(tmp_path / "copy") == [*range(results, COUNT)]
    assert contents(tmp_path / "copy") == contents(finished)


def test_a_flipped_bit_in_a_journal_costs_its_own_item_only(tmp_path: Path) -> None:
    journal = begun(tmp_path / "flipped")
    lines = journal.read_bytes().splitlines(keepends=True)
    for at in range(len(lines[0]) + len(lines[1]) + 5, sum(map(len, lines[:3])) - 1, 7):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "flipped", tmp_path / "copy")
        flip(tmp_path / "copy" / journal.name, at)
        with opened(tmp_path / "copy") as ledger:
            assert [item.payload for item in ledger.todo(items())][:2] == [1, 3]


@pytest.mark.parametrize("garbage", [b"\0" * 4096, b"zzzz", b"00000000 [\n", b"\xff\xfe\n\n\0\n"])
def test_garbage_at_the_end_of_a_journal_is_no_result(tmp_path: Path, finished: Path, garbage: bytes) -> None:
    with open(begun(tmp_path / "garbage"), "ab") as file:
        file.write(garbage)
    assert again(tmp_path / "garbage") == list(range(3, COUNT))
    assert contents(tmp_path / "garbage") == contents(finished)


def test_of_two_results_of_one_key_in_a_journal_the_first_stands(tmp_path: Path, finished: Path) -> None:
    """It was recorded for good before the other came, and counts once."""
    journal = begun(tmp_path / "twice")
    other = journal.read_bytes().splitlines()[3][9:].replace(b"k2", b"k1")  # k1, with what came of k2
    with open(journal, "ab") as file:
        file.write(b"%08x %s\n" % (zlib.crc32(other), other))
    assert again(tmp_path / "twice") == list(range(3, COUNT))
    assert contents(tmp_path / "twice") == contents(finished)


def test_a_journal_of_other_items_is_refused(tmp_path: Path) -> None:
    begun(tmp_path / "one")
    with Ledger.open(tmp_path / "two", schema=SCHEMA, config={"seed": 1}, inputs={"in": "d"}, part_size=4) as ledger:
        next(ledger.todo(WorkItem(f"q{i}") for i in range(COUNT)))
        ledger.record("q0")
    shutil.copy(tmp_path / "two" / "journal-00000.jsonl", tmp_path / "one")
    with opened(tmp_path / "one") as ledger, pytest.raises(LedgerError, match="from number 0 on are not those"):
        compute(ledger)


def test_a_journal_that_is_cut_while_in_use_does_not_commit_a_lesser_part(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        todo = ledger.todo(items())
        for _ in range(3):
            ledger.record(next(todo).key)
        os.truncate(tmp_path / "journal-00000.jsonl", 0)
        with pytest.raises(LedgerError, match="was changed by someone else: 3 results are gone"):
            ledger.record(next(todo).key)
    assert read_manifest(tmp_path).items == 0


@pytest.mark.parametrize(
    "name", ["data.csv", "part-00000.parquet", "rejects-00000.parquet", "journal-00000.jsonl", "x.tmp"]
)
def test_a_directory_of_others_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(LedgerError, match=r"(not a stage's output|of another program).*output_dir"):
        opened(tmp_path)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_manifest_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 2, "parts": []}))
    with pytest.raises(LedgerError, match="damaged, or of another program, and there is no part to rebuild it from"):
        opened(tmp_path)


def test_hidden_files_do_not_make_a_directory_foreign(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    assert again(tmp_path) == list(range(COUNT))
