"""Random work on a ledger: any order, any part size, crashes, damage; the end is always that of undisturbed work."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest import mock

import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sq.core.ledger import Ledger, Reject, WorkItem, read_rejects, read_rows

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("x", pa.float64()), ("t", pa.list_(pa.string()))])
ROWS = st.fixed_dictionaries(
    {"id": st.text(st.characters(exclude_categories=["Cs"]))},
    optional={"x": st.floats() | st.none(), "t": st.none() | st.lists(st.none() | st.text('aé\n\\{"\x00', max_size=3))},
)
RESULTS = st.tuples(st.lists(ROWS, max_size=3), st.lists(st.sampled_from(["a", "b"]), max_size=2))


class RandomWork(RuleBasedStateMachine):
    """The model is `results` (decided beforehand) and `recorded` (what must never be asked for again)."""

    @initialize(results=st.lists(RESULTS, max_size=20), part_size=st.integers(1, 8))
    def begin(self, results: list, part_size: int) -> None:
        self.fsync = mock.patch.object(os, "fsync", lambda fd: None)
        self.fsync.start()
        self.place = tempfile.TemporaryDirectory()
        self.directory = Path(self.place.name)
        self.results, self.part_size = results, part_size
        self.recorded: set[str] = set()
        self.damaged = False
        self.open()

    def open(self) -> None:
        self.ledger = Ledger.open(self.directory, schema=SCHEMA, config={}, part_size=self.part_size)
        self.todo = self.ledger.todo(WorkItem(f"k{i}", i) for i in range(len(self.results)))
        self.running: list[WorkItem] = []
        self.exhausted = False

    @precondition(lambda self: not self.exhausted)
    @rule(count=st.integers(1, 6))
    def take(self, count: int) -> None:
        for _ in range(count):
            item = next(self.todo, None)
            if item is None:
                self.exhausted = True
                return
            assert item.key not in self.recorded, "asked for again"
            self.running.append(item)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), count=st.integers(1, 6))
    def answer(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.running))):
            item = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            rows, reasons = self.results[item.payload]
            self.ledger.record(item.key, rows, [Reject({"id": item.key}, reason) for reason in reasons])
            self.recorded.add(item.key)

    @rule()
    def crash(self) -> None:
        """As if killed: no sync, no close; only the lock goes, as it would with the process."""
        self.ledger._hold.forget()
        self.open()

    @rule()
    def stop_and_go_on(self) -> None:
        self.ledger.close()
        self.open()

    @rule(data=st.data())
    def damage_a_part(self, data: st.DataObject) -> None:
        parts = sorted(self.directory.glob("part-*.parquet"))
        if parts:
            path = data.draw(st.sampled_from(parts))
            os.truncate(path, data.draw(st.integers(0, path.stat().st_size - 1)))
            index = int(path.stem.removeprefix("part-"))
            first = index * self.part_size
            self.recorded -= {f"k{i}" for i in range(first, first + self.part_size)}
            self.crash()

    @rule(garbage=st.binary(min_size=1, max_size=40))
    def tear_a_journal(self, garbage: bytes) -> None:
        for path in self.directory.glob("journal-*.jsonl"):
            with path.open("ab") as file:
                file.write(garbage)
        self.crash()

    @precondition(lambda self: self.recorded)
    @rule()
    def lose_the_manifest(self) -> None:
        (self.directory / "manifest.json").unlink()
        self.crash()

    def teardown(self) -> None:
        self.crash()
        while not self.exhausted:
            self.take(6)
        while self.running:
            item = self.running.pop()
            rows, reasons = self.results[item.payload]
            self.ledger.record(item.key, rows, [Reject({"id": item.key}, reason) for reason in reasons])
        summary = self.ledger.finish()
        self.ledger.close()
        wanted = [{"x": None, "t": None} | row for rows, _ in self.results for row in rows]
        found = list(read_rows(self.directory))
        assert [repr([r[n] for n in SCHEMA.names]) for r in found] == [
            repr([r[n] for n in SCHEMA.names]) for r in wanted
        ]
        rejects = [(f"k{i}", reason) for i, (_, reasons) in enumerate(self.results) for reason in reasons]
        assert [(r["key"], r["reason"]) for r in read_rejects(self.directory)] == rejects
        assert (summary.items, summary.rows, summary.rejects) == (len(self.results), len(wanted), len(rejects))
        assert sum(summary.reasons.values()) == len(rejects)
        assert not [p for p in self.directory.iterdir() if p.suffix not in (".json", ".parquet")]
        self.place.cleanup()
        self.fsync.stop()


RandomWork.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRandomWork = RandomWork.TestCase
