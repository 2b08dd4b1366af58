"""Records on their way to a store that may be slow or away: a journal on disk, and one thread that empties it.

Whoever writes a record never waits for the store: `Journal.append` is one line in a local file. `Sender` delivers the
lines in order; while the store is away they stay in the file, and a process that dies leaves its file behind for
the next one to send. Delivery is repeated until it is known to have worked, so it must be harmless to repeat.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from sq.core.secrets import redact

Record = dict[str, Any]
log = logging.getLogger("sq.tracking")

_BATCH = 1000  # records read at once, and metrics sent at once
_COMPACT_ABOVE = 1 << 20
_MEMORY_BYTES = 32 << 20  # for records that the disk will not take


class Refused(Exception):
    """The store answered that it will never take this record."""


class Store(Protocol):
    """Where records go. Every method may raise; only `Refused` means that trying again is useless."""

    name: str

    def open(self, header: Record, files: Path, *, late: bool) -> None: ...

    def deliver(self, record: Record) -> None: ...

    def alive(self) -> bool: ...


class Journal:
    """A first-in, first-out file of records, locked while its process lives; its first line says whose they are."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header, self.files = path, dict(header), path.with_suffix("")
        self.pending = self.dropped = 0
        self._lock = threading.Lock()
        self._ahead: deque[tuple[Record, int]] = deque()  # read but not delivered; their bytes in the file, 0 in memory
        self._memory: deque[bytes] = deque()
        self._memory_bytes = 0
        self._file: BinaryIO | None = None
        self._start = self._read = self._loaded = self._size = 0  # in bytes: records begin, delivered, read ahead, end

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> Journal:
        """A new journal; where the place cannot be written to it lives in memory."""
        journal, unlocked = cls(path, header), path.with_suffix(".new")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = journal._file = unlocked.open("w+b")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                journal._write(_line(journal.header))
                unlocked.rename(path)  # now that it is locked, others may see it
            except OSError:
                file.close()
                journal._file = None
                unlocked.unlink(missing_ok=True)
        journal._start = journal._read = journal._loaded = journal._size
        return journal

    @classmethod
    def left_behind(cls, path: Path) -> Journal | None:
        """The journal of a process that died, or None where it is missing, in use, or no journal."""
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, ValueError, KeyError):
            file = stack.enter_context(path.open("r+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            header = json.loads(file.readline())
            if header["op"] != "open":
                return None
            journal = cls(path, header)
            journal._file, journal._start = file, file.tell()
            journal._read = journal._loaded = journal._size = journal._start
            for line in file:
                if line.endswith(b"\n"):  # a last line without an end was cut off by the kill
                    journal._size += len(line)
                    journal.pending += 1
            stack.pop_all()
            return journal
        return None

    def append(self, record: Record) -> None:
        """Keep a record: on disk, else in memory while there is room, else it is counted as dropped."""
        line = _line(record)
        with self._lock:
            if not self._memory and self._file is not None:
                with contextlib.suppress(OSError):
                    self._write(line)
                    self.pending += 1
                    return
            if self._memory_bytes + len(line) > _MEMORY_BYTES:
                self.dropped += 1
                return
            self._memory.append(line)
            self._memory_bytes += len(line)
            self.pending += 1

    def peek(self) -> list[Record]:
        """The next records in order, without taking them away."""
        with self._lock:
            room = _BATCH - len(self._ahead)
            if self._file is not None and self._loaded < self._size and room > 0:
                self._file.seek(self._loaded)
                while room > 0 and self._loaded < self._size:
                    line = self._file.readline()
                    self._ahead.append((_parse(line), len(line)))
                    self._loaded += len(line)
                    room -= 1
            while room > 0 and self._memory and self._loaded >= self._size:
                line = self._memory.popleft()
                self._memory_bytes -= len(line)
                self._ahead.append((_parse(line), 0))
                room -= 1
            return [record for record, _ in self._ahead]

    def done(self, count: int) -> None:
        """Take away the first `count` records."""
        with self._lock:
            for _ in range(count):
                self._read += self._ahead.popleft()[1]
            self.pending -= count
            if self._file is not None and self._read == self._size > self._start + _COMPACT_ABOVE:
                self._file.truncate(self._start)
                self._size = self._read = self._loaded = self._start

    def close(self) -> None:
        """Let go of the file; it is deleted where nothing is left in it."""
        with self._lock, contextlib.suppress(OSError):
            if self._file is None:
                return
            if not self.pending:
                self.path.unlink(missing_ok=True)
                shutil.rmtree(self.files, ignore_errors=True)
            self._file.close()
            self._file = None
            self.path.parent.rmdir()  # only if it is empty

    def _write(self, line: bytes) -> None:
        """Add a line; one that the disk takes only in part is taken back."""
        assert self._file is not None
        try:
            self._file.seek(self._size)
            self._file.write(line)
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size += len(line)


class Sender(threading.Thread):
    """The one thread that talks to the store: delivers a journal in order; while the store is away, it tries again."""

    def __init__(
        self, journal: Journal, store: Store, *, late: bool = False, then: Callable[[], None] | None = None
    ) -> None:
        """`late`: the journal's own process is gone; `then` is done once, after the run has been opened."""
        super().__init__(name="tracking", daemon=True)
        self.journal, self.store = journal, store
        self._late, self._then = late, then
        self.answered = threading.Event()  # the store has opened the run, or the first try has failed
        self.opened = False
        self.reason = ""
        self.refused: list[str] = []
        self._failures = 0
        self._wake = threading.Condition()
        self._closing = False
        self._progress = time.monotonic()

    def put(self, record: Record) -> None:
        """Keep a record and have it sent soon."""
        self.journal.append(record)
        with self._wake:
            self._wake.notify()

    def run(self) -> None:
        """Deliver until closed; after `close`, one more try is made."""
        while True:
            last = self._closing
            delivered = self.send()
            self.answered.set()
            if (delivered and last and not self.journal.pending) or (last and not delivered):
                return
            with self._wake:
                if not delivered:
                    self._wake.wait_for(lambda: self._closing, timeout=min(30.0, 2.0 ** min(self._failures - 1, 5)))
                else:
                    self._wake.wait_for(lambda: self._closing or self.journal.pending > 0)

    def finish(self, patience: float) -> bool:
        """Wait until everything is sent, or the store is away, or nothing has moved for `patience` seconds."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._progress = time.monotonic()
        while self.is_alive() and time.monotonic() - self._progress < (patience if self.opened else patience / 2):
            self.join(0.1)
        sent = not self.is_alive() and self.opened and not self.journal.pending
        if not self.is_alive():
            self.journal.close()
        return sent

    def send(self) -> bool:
        """Send what there is now; whether the store took it. Does not raise."""
        try:
            if not self.opened:
                self.store.open(self.journal.header, self.journal.files, late=self._late)
                self.opened = True
                self.answered.set()
                if self._then is not None:
                    self._then()
            while records := self.journal.peek():
                for group in _groups(records):
                    self._deliver(group)
                    self.journal.done(len(group))
                    self._failures = 0
                    self._progress = time.monotonic()
        except Exception as error:  # whatever the store's client raises, the work goes on
            self._away(error)
            return False
        if self.reason:
            log.info("tracking: %s is back, the kept records are sent", self.store.name)
        self._failures, self.reason = 0, ""
        return True

    def _deliver(self, records: list[Record]) -> None:
        try:
            self.store.deliver(_joined(records))
        except Exception as error:
            if not self._is_final(error):
                raise
            if len(records) > 1:  # one of them is at fault: find it
                for record in records:
                    self._deliver([record])
                return
            self._keep_refused(records[0], str(error) if isinstance(error, Refused) else _reason(error))
        for record in records:
            if record.get("staged"):
                shutil.rmtree((self.journal.files / record["file"]).parent, ignore_errors=True)

    def _is_final(self, error: Exception) -> bool:
        """Whether a record is at fault: it fails, and fails again, while the store answers other calls."""
        if isinstance(error, Refused):
            return True
        if self._failures < 2 and not self._closing or "OperationalError" in f"{error} {_reason(error)}":
            return False
        return self.store.alive()

    def _away(self, error: Exception) -> None:
        self._failures += 1
        self._progress = time.monotonic()
        first, self.reason = not self.reason, _reason(error)
        if first and not self._closing:
            log.warning(
                "tracking: %s does not answer (%s); work goes on, records are kept in %s until it is back",
                self.store.name, self.reason, self.journal.path,
            )  # fmt: skip

    def _keep_refused(self, record: Record, reason: str) -> None:
        self.refused.append(f"{record['op']}: {reason.splitlines()[0] if reason else 'no reason given'}")
        with contextlib.suppress(OSError), self.journal.path.with_suffix(".refused.jsonl").open("ab") as kept:
            kept.write(_line({"reason": reason, "run": self.journal.header.get("id"), **record}))


def _groups(records: list[Record]) -> Iterator[list[Record]]:
    """Neighbouring metrics go together, so that many small calls cost one request; the rest go one by one."""
    group: list[Record] = []
    for record in records:
        both = bool(group) and record["op"] == group[0]["op"] == "metrics"
        if group and not (both and sum(len(r["metrics"]) for r in (*group, record)) <= _BATCH):
            yield group
            group = []
        group.append(record)
    if group:
        yield group


def _joined(records: list[Record]) -> Record:
    if len(records) == 1:
        return records[0]
    return {"op": "metrics", "metrics": [point for record in records for point in record["metrics"]]}


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"


def _parse(line: bytes) -> Record:
    try:
        record = json.loads(line)
    except ValueError:
        record = {}
    return (
        record
        if isinstance(record, dict) and "op" in record
        else {"op": "unreadable", "line": line.decode("utf-8", "replace")}
    )


def _reason(error: BaseException) -> str:
    """What is at the bottom of an error, in one line: "ConnectionRefusedError: [Errno 111] Connection refused"."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = redact(str(error)).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]
