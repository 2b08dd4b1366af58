"""The index of ids: what it says is what is in the parts, now."""

import shutil

import pytest

from sq.core.ledger import Ledger, Reject, WorkItem, read_manifest
from sq.core.row_index import NAME, RowIndex
from sq.core.rows import CANDIDATE, fit_row

KEPT, GONE = "aaaa{:028d}", "aaab{:028d}"


def write(directory, words, count=7):
    """Items of two rows and a reject each, three to a part."""
    with Ledger.open(directory, schema=CANDIDATE, config={"words": words}, part_size=3) as ledger:
        for item in ledger.todo(WorkItem(f"key-{n}", n) for n in range(count)):
            lineage = {"run": "r", "question_id": f"q{item.payload}", "parents": [f"q{item.payload}", "seed-é"]}
            text = {"question": words, "response": f'"question_id": "q{item.payload}"', "response_index": 0}
            first = fit_row({**lineage, **text, "id": KEPT.format(item.payload)}, CANDIDATE)
            second = first | {"id": f"x{item.payload}"}
            reject = first | {"id": GONE.format(item.payload)}
            ledger.record(item.key, rows=[first, second], rejects=[Reject(row=reject, reason="cut_off", detail="d")])
        ledger.finish()
    return RowIndex(directory, read_manifest(directory))


def ids(records):
    return [(record.id, record.reason) for record in records]


def test_rows_and_rejects_are_found_by_id_and_by_what_they_were_made_from(tmp_path):
    index = write(tmp_path / "d", "one")
    both = [(KEPT.format(5), None), ("x5", None), (GONE.format(5), "cut_off")]
    for again in (index, RowIndex(tmp_path / "d", read_manifest(tmp_path / "d"))):  # made, then read from its file
        assert ids(again.of([KEPT.format(5)])) == both[:1] and ids(again.of([GONE.format(5)])) == both[2:]
        assert ids(again.of([], made_from=["q5"])) == both
        assert ids(again.of(["q5", "no such"])) == [] and len(ids(again.of([], made_from=["seed-é"]))) == 21
        assert len(ids(again.starting_with("aaaa00"))) == 7 and ids(again.starting_with(KEPT.format(5)[:-1])) != []
        assert ids(again.starting_with("aaa")) == ids(again.starting_with("aaaa")) + ids(again.starting_with("aaab"))
        assert ids(again.starting_with("aaac")) == []


@pytest.mark.parametrize("damage", [None, b"", b"{}\n", b'{"format": "sq-ids-1", "entries": 9, "parts": {}}\n12345678'])
def test_an_index_of_other_parts_or_a_damaged_one_is_made_again(tmp_path, damage):
    write(tmp_path / "d", "one")
    file = tmp_path / "d" / NAME
    old = file.read_bytes() if damage is None else damage
    shutil.rmtree(tmp_path / "d")
    write(tmp_path / "d", "two", count=4)
    new = file.read_bytes()
    file.write_bytes(old)
    index = RowIndex(tmp_path / "d", read_manifest(tmp_path / "d"))
    assert [record.row["question"] for record in index.of([KEPT.format(3)])] == ["two"]
    assert ids(index.of([KEPT.format(5)])) == [] and file.read_bytes() == new


def test_only_parts_that_are_new_are_read(tmp_path, monkeypatch):
    write(tmp_path / "short", "one", count=6)
    write(tmp_path / "long", "one", count=7)
    shutil.copy(tmp_path / "short" / NAME, tmp_path / "long" / NAME)
    scanned, scan = [], RowIndex._scan
    monkeypatch.setattr(RowIndex, "_scan", lambda self, part: scanned.append(part.index) or scan(self, part))
    index = RowIndex(tmp_path / "long", read_manifest(tmp_path / "long"))
    assert scanned == [2] and len(ids(index.starting_with("aaaa"))) == 7
