"""A worker's side of a ledger: the parts that it was given, each journalled as its results come, then written.

A worker reads the items of the parts that a coordinator gives it (the `Ledger`: in this process, or at the other end
of a pipe), as one stream of items across parts, so that an engine never drains between two of them. It writes a part's
files when the last of its items has a result, and reports counts and checksums; rows go through no other process.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sq.core.codec import Codec, dump
from sq.core.errors import LedgerError
from sq.core.files import digest_of
from sq.core.journal import Journal
from sq.core.keys import check_keys, hashes_of
from sq.core.manifest import OTHER_DIRECTORY, Manifest, Part, journal_file
from sq.core.parts import write_part
from sq.core.rejects import Reject
from sq.core.retry import Retry

_SYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One unit of work. `key` is unique in the stage and made of what decides the rows; `payload` is for the stage."""

    key: str
    payload: Any = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A part to be worked on. One that is committed and not `reopened` has all its results; its items are checked."""

    index: int
    committed: Part | None = None
    reopened: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PartKeys:
    """The items of a part as a worker has read them: how many, a digest of their keys in order, a hash of each."""

    index: int
    count: int
    digest: str
    hashes: bytes


class Coordinator(Protocol):
    """Who gives out parts and commits them."""

    def next_part(self) -> Assignment | None:
        """A part that nobody works on; None where there is none now."""
        ...

    def begin(self, keys: PartKeys, names: Sequence[str] = ()) -> None:
        """Check a part's items against what is known; `names`: their keys, for an error's text."""
        ...

    def drop(self, part: Part) -> None:
        """Take back a committed part of which some items are asked again; the others are in its journal."""
        ...

    def commit(self, part: Part, computed: int) -> None:
        """Enter a part whose files are written; `computed` of its results are new."""
        ...

    def leave(self, index: int, done: int, failures: Sequence[str]) -> None:
        """Part `index` is left open with so many results: its other items have failed, with these errors."""
        ...

    def check_open(self) -> None:
        """Raise a `LedgerError` where nothing may be recorded any more."""
        ...


@dataclass(slots=True)
class _OpenPart:
    """A part with items that wait for their result."""

    index: int
    keys: list[str]
    journal: Journal
    done: int = 0
    computed: int = 0
    failed: list[str] = field(default_factory=list)


class PartReader:
    """The items of a stage part by part: `items(n)` gives those from number `n` on, at no cost where it `seeks`."""

    def __init__(self, items: Callable[[int], Iterable[WorkItem]], size: int, seeks: bool) -> None:
        self._items, self._size, self._seeks = items, size, seeks
        self._stream: Iterator[WorkItem] = iter(())
        self._at = -1

    def read(self, index: int) -> list[WorkItem]:
        """The items of a part; fewer than a part's size only at the end."""
        if self._at < 0 or index < self._at or (index > self._at and self._seeks):
            self._stream = iter(self._items(index * self._size))
        elif index > self._at:
            skipped = (index - self._at) * self._size
            next(itertools.islice(self._stream, skipped, skipped), None)
        self._at = index + 1
        return list(itertools.islice(self._stream, self._size))


class Shard:
    """What one worker does of a ledger; `record` and `fail` may be called from any thread."""

    def __init__(
        self, coordinator: Coordinator, head: Manifest, directory: Path, codec: Codec, retry: Retry | None = None
    ) -> None:
        self.directory = directory
        self._coordinator, self._codec = coordinator, codec
        self._retry = retry or Retry()
        self._head, self._identity = head, head.identity
        self._open: dict[int, _OpenPart] = {}
        self._waiting: dict[str, _OpenPart] = {}  # keys given out by `todo`, without a result
        self._synced = time.monotonic()
        self._mutex = threading.RLock()

    @property
    def done(self) -> int:
        """Results in parts that are still open."""
        return sum(part.done for part in self._open.values())

    @property
    def recorded(self) -> dict[int, int]:
        """The same of each open part."""
        with self._mutex:
            return {index: part.done for index, part in self._open.items()}

    @property
    def waiting(self) -> list[str]:
        """Keys of items without a result."""
        return list(self._waiting)

    def todo(self, items: Callable[[int], Iterable[WorkItem]], *, seeks: bool = False) -> Iterator[WorkItem]:
        """Yield the items that have no result yet of each part that is given, until there is none."""
        reader = PartReader(items, self._head.part_size, seeks)
        while (given := self._coordinator.next_part()) is not None:
            chunk = reader.read(given.index)
            with self._mutex:
                self._coordinator.check_open()
                part, recorded = self._begin(given, [item.key for item in chunk])
            if part is None:
                continue
            for item in chunk:
                if item.key not in recorded:
                    with self._mutex:
                        self._waiting[item.key] = part
                    yield item

    def record(self, key: str, rows: Sequence[Mapping[str, Any]] = (), rejects: Sequence[Reject] = ()) -> None:
        """Keep the result of one item (`Ledger.record`)."""
        values = [self._codec.values(row, key) for row in rows]
        result = dump([key, values, [reject.values(key) for reject in rejects]])
        with self._mutex:
            part = self._part_of(key)
            part.journal.append(result)
            del self._waiting[key]
            part.done += 1
            part.computed += 1
            self._commit_or_leave(part)
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                self.sync()

    def fail(self, key: str, error: str) -> None:
        """An item has no result in this run: its part is left open, for the next run to go on with."""
        with self._mutex:
            part = self._part_of(key)
            del self._waiting[key]
            part.failed.append(error)
            self._commit_or_leave(part)

    def commit_complete(self) -> None:
        """Commit parts that have all results but could not be written before, on a full disk perhaps."""
        with self._mutex:
            for part in list(self._open.values()):
                if part.done == len(part.keys):
                    self._commit(part)

    def sync(self) -> None:
        """Bring all that was recorded to the disk."""
        for part in self._open.values():
            part.journal.sync()
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close the journals. Safe to call twice."""
        with self._mutex:
            try:
                self.sync()
            finally:
                for part in self._open.values():
                    part.journal.close()

    def _part_of(self, key: str) -> _OpenPart:
        self._coordinator.check_open()
        part = self._waiting.get(key)
        if part is None:
            raise LedgerError(
                f"{self.directory}: item {key!r} does not wait for a result: "
                "it was recorded before, or todo() has not given it out"
            )
        return part

    def _begin(self, given: Assignment, keys: list[str]) -> tuple[_OpenPart | None, set[str]]:
        """The part of these items, unless nothing is left of it, and the keys that have a result from before."""
        check_keys(self.directory, keys)
        index, digest = given.index, digest_of(*keys)
        of_part = PartKeys(index=index, count=len(keys), digest=digest, hashes=hashes_of(keys).tobytes())
        self._coordinator.begin(of_part, keys)
        if not keys or (given.committed is not None and not given.reopened):
            return None, set()
        header = {"identity": self._identity, "part_size": self._head.part_size, "part": index, "keys": digest}
        part = _OpenPart(index, keys, Journal(self.directory / journal_file(index), header))
        self._open[index] = part  # from here on `close` closes its journal
        if given.committed is not None:  # it stands until what is left of it is in the journal
            self._retry.put_back(self.directory, given.committed, keys, self._codec, part.journal)
            self._coordinator.drop(given.committed)
        headers, results = part.journal.replay()
        if any(h != header for h in headers) or not results.keys() <= set(keys):
            raise other_items(self.directory, index * self._head.part_size)
        results = self._retry.standing_in(part.journal, results, self._codec)
        part.done = len(results)
        self._commit_or_leave(part)
        return (part, set(results)) if part.done < len(keys) else (None, set())

    def _commit_or_leave(self, part: _OpenPart) -> None:
        """Commit a part whose items all have a result; leave one whose others have failed."""
        if part.done == len(part.keys):
            self._commit(part)
        elif part.done + len(part.failed) == len(part.keys):
            part.journal.sync()
            part.journal.close()
            del self._open[part.index]
            self._coordinator.leave(part.index, part.done, part.failed)

    def _commit(self, part: _OpenPart) -> None:
        """Write the part, have it entered, and only then delete its journal."""
        results = part.journal.results()
        if lost := [key for key in part.keys if key not in results]:
            raise LedgerError(
                f"{part.journal.path} was changed by someone else: {len(lost)} results are gone from it. "
                "Run the same command again: only those are computed."
            )
        done = write_part(self.directory, part.index, part.keys, results, self._codec, self._head)
        self._coordinator.commit(done, part.computed)
        del self._open[part.index]
        part.journal.delete()


def other_items(directory: Path, first: int) -> LedgerError:
    """The error for items that are not those a ledger was begun with."""
    return LedgerError(
        f"{directory}: the items from number {first} on are not those it was begun with: the input has "
        f"changed since (rows added, removed or reordered), or an earlier version read it. {OTHER_DIRECTORY}"
    )
