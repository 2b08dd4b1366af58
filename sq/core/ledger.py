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

import itertools
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from sq.core.codec import Codec, dump
from sq.core.errors import LedgerError
from sq.core.files import DirectoryLock, digest_of
from sq.core.journal import Journal
from sq.core.keys import SeenKeys
from sq.core.manifest import OTHER_DIRECTORY, Manifest, journal_file, plain_config, write_manifest
from sq.core.parts import read_manifest, read_rejects, read_rows, write_part
from sq.core.recovery import make_directory, recover
from sq.core.rejects import Reject
from sq.core.retry import Retry, delete_part, opened_again

__all__ = ["WorkItem", "Ledger", "Manifest", "Reject", "LedgerSummary", "read_manifest", "read_rejects", "read_rows"]

log = logging.getLogger(__name__)
_SYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One unit of work. `key` is unique in the stage and made of what decides the rows; `payload` is for the stage."""

    key: str
    payload: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerSummary:
    """What a finished ledger holds; `items` = `computed` (by this process) + `resumed` (found already done)."""

    items: int
    rows: int
    rejects: int
    reasons: dict[str, int]
    parts: int
    computed: int
    resumed: int
    digest: str


@dataclass(slots=True)
class _OpenPart:
    """A part with items that wait for their result."""

    index: int
    keys: list[str]
    journal: Journal
    done: int = 0


class Ledger:
    """An open stage directory. Use `Ledger.open` in a `with` statement; `record` may be called from any thread."""

    def __init__(
        self, directory: Path, lock: DirectoryLock, manifest: Manifest, codec: Codec, retry: Retry | None = None
    ) -> None:
        self.directory = directory
        self._retry = retry or Retry()
        manifest, self._opened_again = opened_again(directory, manifest, codec, retry) if retry else (manifest, set())
        self._hold = lock
        self._manifest = manifest
        self._codec = codec
        self._open_parts: dict[int, _OpenPart] = {}
        self._waiting: dict[str, _OpenPart] = {}  # keys given out by `todo`, without a result
        self._started = self._read_to_end = False
        self._computed, self._synced = 0, time.monotonic()
        self._mutex = threading.RLock()

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
            return cls(path, lock, recover(path, wanted, codec), codec, retry)
        except BaseException:
            lock.release()
            raise

    @property
    def finished(self) -> bool:
        """Whether an earlier run finished it: nothing is left to do, and its items need not be made again."""
        return self._manifest.finished

    @property
    def done(self) -> int:
        """Items that have a result, as far as is known: of an open part only once `todo` has come to it."""
        parts = [part for index, part in self._manifest.parts.items() if index not in self._opened_again]
        return sum(part.items for part in parts) + sum(part.done for part in self._open_parts.values())

    def todo(self, items: Iterable[WorkItem]) -> Iterator[WorkItem]:
        """Yield those of `items` that have no result yet, reading at most a part ahead. Once per open ledger.

        Raises:
            LedgerError: for a key that comes twice, and for items that are not those the ledger was begun with.
        """
        self._check_open()
        if self._started:
            raise LedgerError(f"{self.directory}: todo() was called twice. Close the ledger and open it again.")
        self._started = True
        return self._todo(iter(items))

    def record(self, key: str, rows: Sequence[Mapping[str, Any]] = (), rejects: Sequence[Reject] = ()) -> None:
        """Keep the result of one item, for good: when this returns, a killed process does not lose it.

        Raises:
            LedgerError: for a row that does not fit the schema, for a key that does not wait for a result, and
                for a directory that cannot be written; what was recorded before stays safe.
        """
        values = [self._codec.values(row, key) for row in rows]
        result = dump([key, values, [reject.values(key) for reject in rejects]])
        with self._mutex:
            self._check_open()
            part = self._waiting.get(key)
            if part is None:
                raise LedgerError(
                    f"{self.directory}: item {key!r} does not wait for a result: "
                    "it was recorded before, or todo() has not given it out"
                )
            part.journal.append(result)
            del self._waiting[key]
            part.done += 1
            self._computed += 1
            if part.done == len(part.keys):
                self._commit(part)
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                for part in self._open_parts.values():
                    part.journal.sync()
                self._synced = time.monotonic()

    def finish(self) -> LedgerSummary:
        """Mark the ledger finished and say what it holds.

        Raises:
            LedgerError: if `todo` was not read to its end, or items have no result.
        """
        with self._mutex:
            self._check_open()
            if not (self._read_to_end or (self._manifest.finished and not self._started)):
                raise LedgerError(f"{self.directory}: finish() before todo() was read to its end")
            for part in list(self._open_parts.values()):
                if part.done == len(part.keys):  # its commit failed before, on a full disk perhaps
                    self._commit(part)
            if missing := list(self._waiting):
                raise LedgerError(
                    f"{self.directory}: {len(missing)} items have no result, the first of them {missing[0]!r}. "
                    "Run the same command again: only those are computed."
                )
            if not self._manifest.finished:
                self._replace(replace(self._manifest, finished=True))
            return self._summary()

    def close(self) -> None:
        """Sync and close the journals and let the directory go. Safe to call twice."""
        with self._mutex:
            if not self._hold.held:
                return
            try:
                for part in self._open_parts.values():
                    part.journal.sync()
            finally:
                for part in self._open_parts.values():
                    part.journal.close()
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

    def _todo(self, items: Iterator[WorkItem]) -> Iterator[WorkItem]:
        seen = SeenKeys(self.directory)
        count = 0
        for index in itertools.count():
            chunk = list(itertools.islice(items, self._manifest.part_size))
            if not chunk:
                break
            count += len(chunk)
            seen.add([item.key for item in chunk])
            with self._mutex:
                self._check_open()
                part, recorded = self._begin(index, [item.key for item in chunk])
            if part is None:
                continue
            for item in chunk:
                if item.key not in recorded:
                    with self._mutex:
                        self._waiting[item.key] = part
                    yield item
        with self._mutex:
            self._end(count)

    def _begin(self, index: int, keys: list[str]) -> tuple[_OpenPart | None, set[str]]:
        """The part of these items, unless it is committed, and the keys that have a result from an earlier run."""
        digest = digest_of(*keys)
        committed = self._manifest.parts.get(index)
        if committed is not None:
            self._refuse_unless(committed.keys == digest, index)
            if index not in self._opened_again:
                return None, set()
        self._refuse_unless(not self._manifest.finished, index)
        manifest = self._manifest
        header = {"identity": manifest.identity, "part_size": manifest.part_size, "part": index, "keys": digest}
        part = _OpenPart(index, keys, Journal(self.directory / journal_file(index), header))
        self._open_parts[index] = part  # from here on `close` closes its journal
        if committed is not None:  # it stands until what is left of it is in the journal
            self._retry.put_back(self.directory, committed, keys, self._codec, part.journal)
            self._replace(replace(manifest, parts={n: one for n, one in manifest.parts.items() if n != index}))
            delete_part(self.directory, committed)
            self._opened_again.discard(index)
        headers, results = part.journal.replay()
        self._refuse_unless(all(h == header for h in headers) and results.keys() <= set(keys), index)
        results = self._retry.standing_in(part.journal, results, self._codec)
        part.done = len(results)
        if part.done == len(keys):
            self._commit(part)
            return None, set()
        return part, set(results)

    def _end(self, count: int) -> None:
        """Nothing may be left over from a longer input."""
        size = self._manifest.part_size
        parts = -(-count // size)
        journals = {int(path.stem.removeprefix("journal-")) for path in self.directory.glob("journal-*.jsonl")}
        for index in sorted(self._manifest.parts.keys() | journals):
            self._refuse_unless(index < parts, index)
        self._read_to_end = True

    def _refuse_unless(self, same: bool, index: int) -> None:
        if not same:
            first = index * self._manifest.part_size
            raise LedgerError(
                f"{self.directory}: the items from number {first} on are not those it was begun with: the input has "
                f"changed since (rows added, removed or reordered). {OTHER_DIRECTORY}"
            )

    def _commit(self, part: _OpenPart) -> None:
        """Write the part, enter it in the manifest, and only then delete its journal."""
        results = part.journal.results()
        if lost := [key for key in part.keys if key not in results]:
            raise LedgerError(
                f"{part.journal.path} was changed by someone else: {len(lost)} results are gone from it. "
                "Run the same command again: only those are computed."
            )
        done = write_part(self.directory, part.index, part.keys, results, self._codec, self._manifest)
        self._replace(replace(self._manifest, parts=self._manifest.parts | {part.index: done}))
        del self._open_parts[part.index]
        part.journal.delete()

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

    def _check_open(self) -> None:
        if not self._hold.held:
            raise LedgerError(
                f"{self.directory}: this ledger is closed, or belongs to the process that forked this one"
            )
