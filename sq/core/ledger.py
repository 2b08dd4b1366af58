"""A stage's output directory: Parquet parts committed atomically, every item exactly once, rejects beside them.

An item is the unit of work, its key is made of what determines its rows, its result is any number of rows and rejects.
Results may come in any order; each is journalled when it is recorded, and a part is committed when all its items have
one. Kill the process anywhere and run the same command again: nothing recorded is computed again, nothing is lost or
doubled, and the directory ends as that of an uninterrupted run. `docs/ledger.md` states guarantees and file formats.

    with Ledger.open(directory, schema=schema, config=config, inputs=inputs) as ledger:
        for item in ledger.todo(items):
            ledger.record(item.key, rows=[...], rejects=[...])
        summary = ledger.finish()
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from sq.core.codec import Codec
from sq.core.errors import LedgerError
from sq.core.files import DirectoryLock, wait_for_others, write_files
from sq.core.keys import SeenKeys
from sq.core.manifest import CommitLog, Manifest, Part, plain_config, write_manifest
from sq.core.parts import read_manifest, read_rejects, read_rows
from sq.core.recovery import make_directory, recover
from sq.core.rejects import Reject
from sq.core.retry import Retry, delete_part, opened_again
from sq.core.shard import Assignment, PartKeys, Shard, WorkItem, other_items

__all__ = ["WorkItem", "Ledger", "Manifest", "Reject", "LedgerSummary", "read_manifest", "read_rejects", "read_rows"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerSummary:
    """What a finished ledger holds; `items` = `computed` (by this run) + `resumed` (found already done)."""

    items: int
    rows: int
    rejects: int
    reasons: dict[str, int]
    parts: int
    computed: int
    resumed: int
    digest: str


class Ledger:
    """An open stage directory: it gives out parts and commits them (`sq.core.shard.Coordinator`).

    Use `Ledger.open` in a `with` statement. `todo` and `record` are for the one worker that is this process itself;
    they may be called from any thread.
    """

    def __init__(
        self, directory: Path, lock: DirectoryLock, manifest: Manifest, codec: Codec, retry: Retry | None = None
    ) -> None:
        self.directory = directory
        self._hold, self._codec, self._retry = lock, codec, retry
        manifest, self._opened_again = opened_again(directory, manifest, codec, retry) if retry else (manifest, set())
        self._manifest = manifest
        self._commits = CommitLog(directory, manifest)
        self._seen = SeenKeys()
        self._next = self._begun = self._computed = self._left = 0
        self._all_given = False
        self._end: int | None = None  # how many parts there are, once somebody has come to the end of the items
        self._shard: Shard | None = None

    @classmethod
    def open(
        cls,
        directory: str | Path,
        *,
        schema: pa.Schema,
        config: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
        part_size: int = 1024,
        retry: Retry | None = None,
    ) -> Self:
        """Start a ledger, or continue one.

        Args:
            directory: where it is; made if absent, and must be empty or a ledger's.
            schema: of the rows. Missing nullable columns become null.
            config: flat, plain values: all that decides the rows. A ledger made with another is refused.
            inputs: name -> digest of what is read. A ledger made from another is refused.
            part_size: items per part. A ledger that exists keeps the one it was made with.
            retry: results of an earlier run that are not to stand: their items are given out again.

        Raises:
            LedgerError: with what stands in the way and the fix.
        """
        if part_size < 1:
            raise LedgerError(f"part_size={part_size} must be at least 1")
        path = Path(os.path.abspath(directory))
        codec = Codec(schema)
        wanted = Manifest(
            schema=codec.text,
            config=plain_config(config),
            inputs=dict(sorted((inputs or {}).items())),
            part_size=part_size,
        )
        make_directory(path)
        lock = DirectoryLock(path)
        try:
            wait_for_others(path)
            return cls(path, lock, recover(path, wanted, codec), codec, retry)
        except BaseException:
            lock.release()
            raise

    @property
    def manifest(self) -> Manifest:
        """What is committed."""
        return self._manifest

    @property
    def finished(self) -> bool:
        """Whether an earlier run finished it: nothing is left to do, and its items need not be made again."""
        return self._manifest.finished

    @property
    def done(self) -> int:
        """Items that have a result, as far as is known: of an open part only once `todo` has come to it."""
        parts, shard = list(self._manifest.parts.items()), self._shard  # progress asks from a thread of its own
        known = sum(part.items for index, part in parts if index not in self._opened_again)
        return known + self._left + (shard.done if shard else 0)

    def todo(self, items: Iterable[WorkItem]) -> Iterator[WorkItem]:
        """Yield those of `items` that have no result yet, reading at most a part ahead. Once per open ledger.

        Raises:
            LedgerError: for a key that comes twice, and for items that are not those the ledger was begun with.
        """
        stream = iter(items)
        return self.shard().todo(lambda start: stream)

    def shard(self) -> Shard:
        """The worker that is this process itself, which does all parts. Once per open ledger."""
        self.check_open()
        if self._shard is not None:
            raise LedgerError(f"{self.directory}: todo() was called twice. Close the ledger and open it again.")
        self._shard = Shard(self, self._manifest, self.directory, self._codec, self._retry)
        return self._shard

    def record(self, key: str, rows: Sequence[Mapping[str, Any]] = (), rejects: Sequence[Reject] = ()) -> None:
        """Keep the result of one item, for good: when this returns, a killed process does not lose it.

        Raises:
            LedgerError: for a row that does not fit the schema, for a key that does not wait for a result, and
                for a directory that cannot be written; what was recorded before stays safe.
        """
        self.check_open()
        if self._shard is None:
            raise LedgerError(f"{self.directory}: item {key!r} does not wait for a result: todo() has not given it out")
        self._shard.record(key, rows, rejects)

    def next_part(self) -> Assignment | None:
        """The next part that nobody has been given; None where all have been.

        Raises:
            LedgerError: where parts are left over from a longer input.
        """
        index = self._next
        if self._end is not None and index >= self._end:
            if self._all_given:
                return None
            self._all_given = True
            journals = {int(path.stem.removeprefix("journal-")) for path in self.directory.glob("journal-*.jsonl")}
            for left in sorted(self._manifest.parts.keys() | journals):
                self._refuse_unless(left < self._end, left)
            return None
        self._next += 1
        return self.assignment(index)

    def assignment(self, index: int) -> Assignment:
        """Part `index`, as it is to be given to a worker."""
        return Assignment(index, self._manifest.parts.get(index), index in self._opened_again)

    def stands(self, index: int) -> bool:
        """Whether a part is committed, and not opened again."""
        return index in self._manifest.parts and index not in self._opened_again

    def begin(self, keys: PartKeys, names: Sequence[str] = (), *, again: bool = False) -> None:
        """Check a part's items; `again`: they were checked before, and their worker has died since.

        Raises:
            LedgerError: for a key that comes twice, and for items that are not those the ledger was begun with.
        """
        self.check_open()
        index, size = keys.index, self._manifest.part_size
        hashes = np.frombuffer(keys.hashes, np.int64)
        place = self._seen.add(hashes) if names else None
        if place is not None:
            raise _repeated(self.directory, f"the item key {names[place]!r}")
        if keys.count and not names and not again:
            self._seen.add_later(hashes)
            self._refuse_repeated()
        committed = self._manifest.parts.get(index)
        if keys.count:
            self._begun = max(self._begun, index + 1)
            same = committed.keys == keys.digest if committed else not self._manifest.finished
            self._refuse_unless(same, index)
        if keys.count < size:
            end = index + (keys.count > 0)
            self._end = end if self._end is None else min(self._end, end)
        if self._end is not None:
            self._refuse_unless(self._begun <= self._end, self._end)

    def drop(self, part: Part) -> None:
        """Take a part out that is opened again: its results that stand are in a journal, durably."""
        parts = {index: one for index, one in self._manifest.parts.items() if index != part.index}
        self._replace(replace(self._manifest, parts=parts))
        delete_part(self.directory, part)
        self._opened_again.discard(part.index)

    def commit(self, part: Part, computed: int, files: Mapping[str, bytes] | None = None) -> None:
        """Enter a part, durably; `files` are its own, where its worker cannot write here."""
        if files:
            write_files(self.directory, files)
        self._commits.append(part)
        self._manifest.parts[part.index] = part
        self._computed += computed

    def leave(self, index: int, done: int, failures: Sequence[str]) -> None:
        """A part that is left open stays as its journal has it."""
        self._left += done

    def check_open(self) -> None:
        """Raise a `LedgerError` unless this process holds the directory."""
        if not self._hold.held:
            raise LedgerError(
                f"{self.directory}: this ledger is closed, or belongs to the process that forked this one"
            )

    def finish(self) -> LedgerSummary:
        """Mark the ledger finished and say what it holds.

        Raises:
            LedgerError: if not all parts have been given out, or items have no result.
        """
        self.check_open()
        given_out = self._end is not None and self._next >= self._end
        if not (given_out or (self._manifest.finished and self._next == 0)):
            raise LedgerError(f"{self.directory}: finish() before todo() was read to its end")
        if self._shard is not None:
            self._shard.commit_complete()
        self._seen.finish()
        self._refuse_repeated()
        missing = self._shard.waiting if self._shard else []
        lost = [index for index in range(self._end or 0) if index not in self._manifest.parts]
        if missing or lost:
            first = f"{len(missing)} items have no result, the first of them {missing[0]!r}" if missing else (
                f"{len(lost)} parts have items without a result, the first of them part {lost[0]}"
            )  # fmt: skip
            raise LedgerError(f"{self.directory}: {first}. Run the same command again: only those are computed.")
        if not self._manifest.finished:
            self._replace(replace(self._manifest, finished=True))
        self._commits.delete()
        return self._summary()

    def close(self) -> None:
        """Sync and close the journals and let the directory go. Safe to call twice."""
        if not self._hold.held:
            return
        try:
            if self._shard is not None:
                self._shard.close()
        finally:
            self._commits.close()
            self._hold.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except LedgerError as second:
            if kind is None:
                raise
            log.warning("%s", second)  # the error that ended the work is the one to report

    def _refuse_repeated(self) -> None:
        if self._seen.repeated:
            raise _repeated(self.directory, "an item key (workers=1 says which)")

    def _refuse_unless(self, same: bool, index: int) -> None:
        if not same:
            raise other_items(self.directory, index * self._manifest.part_size)

    def _replace(self, manifest: Manifest) -> None:
        write_manifest(self.directory, manifest)
        self._manifest = manifest

    def _summary(self) -> LedgerSummary:
        done = self._manifest
        return LedgerSummary(
            items=done.items,
            rows=done.rows,
            rejects=done.rejects,
            reasons=done.reasons,
            parts=len(done.parts),
            computed=self._computed,
            resumed=done.items - self._computed,
            digest=done.digest,
        )


def _repeated(directory: Path, what: str) -> LedgerError:
    return LedgerError(f"{directory}: {what} comes twice; every item needs a key of its own")
