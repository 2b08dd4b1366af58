"""Results that an earlier run recorded and that are not to stand: asked again, and nothing else is."""

from __future__ import annotations

import pytest
from ledger_killed import SCHEMA, even, failing, items, of_the_engine, result

from sq.core.ledger import Ledger, Reject, WorkItem, read_manifest, read_rejects, read_rows
from sq.core.retry import Retry

ENGINE = Retry(reject=of_the_engine)


def run(directory, made, retry=None, count=30):
    """A stage with these results; the items it computed."""
    computed = []
    with Ledger.open(directory, schema=SCHEMA, config={"count": count}, part_size=8, retry=retry) as ledger:
        for item in ledger.todo(items(count)):
            computed.append(item.payload)
            ledger.record(item.key, *made(item.payload))
        ledger.finish()
    return computed


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_only_those_are_computed_and_the_directory_is_as_if_nothing_had_failed(tmp_path):
    run(tmp_path / "a", failing)
    assert run(tmp_path / "a", even, ENGINE) == [n for n in range(30) if n % 3 == 1]
    run(tmp_path / "undisturbed", even)
    assert files(tmp_path / "a") == files(tmp_path / "undisturbed")


def test_what_is_finished_stays_so_where_nothing_is_asked_again(tmp_path):
    run(tmp_path / "a", even)
    before = files(tmp_path / "a")
    with Ledger.open(tmp_path / "a", schema=SCHEMA, config={"count": 30}, retry=ENGINE) as ledger:
        assert ledger.finished
    assert files(tmp_path / "a") == before


def test_without_being_told_nothing_is_asked_again(tmp_path):
    run(tmp_path / "a", failing)
    before = files(tmp_path / "a")
    with Ledger.open(tmp_path / "a", schema=SCHEMA, config={"count": 30}) as ledger:
        assert ledger.finished
    assert files(tmp_path / "a") == before


def test_a_retry_that_was_broken_off_before_its_first_item_leaves_what_was_there(tmp_path):
    run(tmp_path / "a", failing)
    before = files(tmp_path / "a")
    Ledger.open(tmp_path / "a", schema=SCHEMA, config={"count": 30}, retry=ENGINE).close()
    assert not read_manifest(tmp_path / "a").finished
    assert run(tmp_path / "a", even) == []
    assert files(tmp_path / "a") == before


def test_what_fails_again_is_recorded_again(tmp_path):
    run(tmp_path / "a", failing)
    before = files(tmp_path / "a")
    run(tmp_path / "a", failing, ENGINE)
    assert files(tmp_path / "a") == before


def test_by_rows_too(tmp_path):
    """An evaluation's answer that the engine could not give is a row."""

    def unanswered(number):
        rows, rejects = even(number)
        return [{**row, "text": None} for row in rows] if number % 4 == 2 else rows, rejects

    run(tmp_path / "a", unanswered)
    assert run(tmp_path / "a", even, Retry(row=lambda row: row["text"] is None)) == [
        n for n in range(30) if n % 4 == 2 and n % 7 != 3
    ]
    run(tmp_path / "undisturbed", even)
    assert files(tmp_path / "a") == files(tmp_path / "undisturbed")


def test_where_rows_cannot_be_told_apart_the_part_is_computed_again(tmp_path):
    def uneven(number):
        return result(number)[0], []

    run(tmp_path / "a", lambda number: failing(10) if number == 9 else uneven(number))
    assert run(tmp_path / "a", uneven, ENGINE) == list(range(8, 16)), "eight rows of seven items"
    run(tmp_path / "undisturbed", uneven)
    assert files(tmp_path / "a") == files(tmp_path / "undisturbed")


def test_items_with_different_numbers_of_rows_are_told_apart_by_a_column(tmp_path):
    def uneven(number):
        row = {"text": f"of {number}", "score": None, "parents": None}
        return [{"id": f"{number}.{i}", **row} for i in range(number % 3 + 1)], []

    told = Retry(reject=of_the_engine, item_column="text")
    for number in range(8):  # without 0, 3 or 6, two rows each would do
        place = tmp_path / str(number)
        run(place, lambda n, failed=number: failing(10) if n == failed else uneven(n), count=8)
        assert run(place, uneven, told, count=8) == [number]
        run(tmp_path / "undisturbed", uneven, count=8)
        assert files(place) == files(tmp_path / "undisturbed")


def test_items_that_depend_on_each_other_are_all_computed_again(tmp_path):
    run(tmp_path / "a", lambda number: failing(number) if number == 20 else even(number))
    assert run(tmp_path / "a", even, ENGINE) == [], "no item failed"
    run(tmp_path / "b", lambda number: failing(number) if number == 19 else even(number))
    assert run(tmp_path / "b", even, Retry(reject=of_the_engine, whole=True)) == list(range(30))
    assert files(tmp_path / "a") == files(tmp_path / "b")


def broken_off(directory, made, at):
    """A run that ended at this item, its part not committed."""
    with Ledger.open(directory, schema=SCHEMA, config={"count": 30}, part_size=8) as ledger:
        for item in ledger.todo(items(30)):
            if item.payload == at:
                return
            ledger.record(item.key, *made(item.payload))


def test_of_a_part_that_was_not_finished_too(tmp_path):
    broken_off(tmp_path / "a", failing, 14)
    failed = [n for n in range(14) if n % 3 == 1]
    with Ledger.open(tmp_path / "a", schema=SCHEMA, config={"count": 30}, part_size=8, retry=ENGINE) as ledger:
        assert [item.payload for item in ledger.todo(items(30))] == [*failed, *range(14, 30)]
        ledger.record(list(items(30))[10].key, *even(10))
    assert run(tmp_path / "a", even) == [n for n in [*failed, *range(14, 30)] if n != 10], (
        "what came in their place stands"
    )
    run(tmp_path / "undisturbed", even)
    assert files(tmp_path / "a") == files(tmp_path / "undisturbed")


@pytest.mark.parametrize("at", [1, 9])
def test_items_that_depend_on_each_other_are_computed_again_where_one_failed_in_a_part_or_a_journal(tmp_path, at):
    broken_off(tmp_path / "a", lambda n: ([], [Reject(row={}, reason="engine")]) if n == at else even(n), 14)
    assert run(tmp_path / "a", even, Retry(reject=of_the_engine, whole=True)) == list(range(30))
    run(tmp_path / "undisturbed", even)
    assert files(tmp_path / "a") == files(tmp_path / "undisturbed")


def test_the_input_must_be_the_same(tmp_path):
    from sq.core.errors import LedgerError

    run(tmp_path / "a", failing)
    with Ledger.open(tmp_path / "a", schema=SCHEMA, config={"count": 30}, retry=ENGINE) as ledger:
        with pytest.raises(LedgerError, match="the input has changed"):
            list(ledger.todo(WorkItem(f"other-{n}") for n in range(30)))
    assert sum(1 for _ in read_rows(tmp_path / "a", unfinished=True)) > 0
    assert sum(1 for _ in read_rejects(tmp_path / "a", unfinished=True)) > 0
