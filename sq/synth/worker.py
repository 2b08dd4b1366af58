"""One worker of a stage: a process with an engine of its own, which does the parts that the coordinator gives it.

It builds the stage from the job's own config, reads the items of its parts, asks, checks, journals and writes the
parts; what goes over the wire is a part's number, the digest of its keys, and its counts and checksums. Where it does
not see the stage's directory, it works in a directory of its own and sends the files of a finished part. When the
coordinator goes, it goes too.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import random
import shutil
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.codec import Codec
from sq.core.errors import ConfigError, DirectoryError, SqError
from sq.core.files import join_directory, remove
from sq.core.manifest import Manifest, Part, journal_file, plain_config
from sq.core.rejects import Reject
from sq.core.shard import Assignment, PartKeys, Shard, WorkItem
from sq.data.readers import BadRow
from sq.engine.engine_log import log_to
from sq.synth.connections import connect
from sq.synth.parts import do_parts, identity_of, not_in_store, record, retry_of, usable
from sq.synth.stage import ItemResult, StageSpec
from sq.synth.stage_metrics import Cadence
from sq.synth.suspects import Suspects

if TYPE_CHECKING:
    from sq.synth.config import SynthJob

TOGETHER = 32
"""Items that a worker asks about at once where one of a part's rows may end it."""
EXIT_SECONDS = 10.0
"""Seconds that a process has to end after its work, where Ray ends it."""
COUNTED_EVERY = 5.0
"""Most seconds between two messages on how far a worker has come."""


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """What a worker is given when it comes: the stage, and where its ledger is."""

    job: SynthJob
    run: str
    head: Manifest
    directory: Path
    marker: str
    """The name of a file there: who sees it shares the disk."""
    working_directory: Path
    """The working directory, by which relative paths of the job go."""


class _Remote:
    """The coordinator at the other end of the wire (`sq.core.shard.Coordinator`)."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sending, self._asking = threading.Lock(), threading.Lock()
        self._first: Assignment | None = None
        self._more = True
        self._over = False
        self.files: Path | None = None
        """The directory of this worker's own, where it does not see the stage's."""
        self.left: set[int] = set()
        """At the end: the parts whose journals the next run goes on with."""
        threading.Thread(target=self._receive, daemon=True).start()

    def send(self, *message: Any) -> None:
        with self._sending:
            self._link.send(message)

    def request(self, *message: Any) -> Any:
        with self._asking:
            self.send(*message)
            return self._replies.get()

    def wait_for_part(self) -> tuple[Assignment, Suspects | None] | None:
        """A part to begin with, when there is one; None when all is done."""
        given: tuple[Assignment, Suspects | None] | set[int] = self.request("next", True)
        if isinstance(given, set):
            self._over, self.left = True, given
            return None
        self._first, self._more = given[0], given[1] is None
        return given

    def next_part(self) -> Assignment | None:
        first, self._first = self._first, None
        if first is not None or not self._more:
            return first
        given = self.request("next", False)
        return given[0] if given else None

    def begin(self, keys: PartKeys, names: Sequence[str] = ()) -> None:
        self.send("begin", keys)

    def drop(self, part: Part) -> None:
        self.request("drop", part)

    def commit(self, part: Part, computed: int) -> None:
        files: dict[str, bytes] = {}
        if self.files is not None:
            names = [part.rejects_file, part.file] if part.rejects else [part.file]
            files = {name: (self.files / name).read_bytes() for name in names}
        self.request("commit", part, computed, files)  # until it is entered, this is the only copy
        for name in files:
            remove((self.files or Path()) / name)

    def leave(self, index: int, done: int, failures: Sequence[str]) -> None:
        self.send("leave", index, done, list(failures))

    def check_open(self) -> None:
        pass

    def _receive(self) -> None:
        try:
            while True:
                self._replies.put(self._link.recv())
        except (EOFError, OSError):
            if not self._over:
                os._exit(3)  # the coordinator has gone: what is recorded is in the journals


def work(address: Any, key: bytes, number: int) -> None:
    """Do the parts of a stage that the coordinator at `address` gives, until there are no more."""
    logging.basicConfig(level=logging.WARNING, format=f"worker {number}: %(message)s", stream=sys.stderr)
    for name in ("sq.data", "sq.synth.stage"):  # what is wrong with the input, the coordinator says once
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("sq.data.order").setLevel(logging.WARNING)  # where a mix ends, only who reads its end knows
    remote = _Remote(connect(address, key, number))
    try:
        _work(remote, remote.request("task"), number)
    except BaseException as error:
        known = isinstance(error, SqError)
        text = str(error) if known else traceback.format_exc()
        remote.send("error", type(error) if known else None, text)
        time.sleep(60)  # the coordinator ends this process when it has read that


def work_on_ray(address: Any, key: bytes, number: int) -> None:
    """The same as a call by Ray, which would report a process that ended in the middle of it as one that died."""
    work(address, key, number)
    last = threading.Timer(EXIT_SECONDS, os._exit, (0,))  # an engine's own threads may hold the process up
    last.daemon = True
    last.start()


def _work(remote: _Remote, task: WorkerTask, number: int) -> None:
    if task.working_directory.is_dir():
        os.chdir(task.working_directory)
    directory = task.directory
    if not join_directory(directory / task.marker):
        remote.files = directory = own_directory(task.run)
    with log_to(directory / f"engine-{number}.log"):
        _do_stage(remote, task, directory)
    if remote.files is not None and not any((directory / journal_file(index)).exists() for index in remote.left):
        shutil.rmtree(directory, ignore_errors=True)  # with journals of parts that others have done


def own_directory(run: str) -> Path:
    """Where the workers of a run work on a machine that does not see the stage's directory; a run resumed finds it.

    Raises:
        DirectoryError: where somebody else has made it.
    """
    directory = Path(tempfile.gettempdir()) / f"sq-{run}"
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise DirectoryError(f"{directory} is not this user's own directory: delete it, or set TMPDIR of the workers")
    return directory


def _do_stage(remote: _Remote, task: WorkerTask, directory: Path) -> None:
    job = task.job
    job.engine.prepare()
    spec = job.stage.spec(job)
    try:
        inputs = dict(sorted((data.name, data.digest) for data in spec.inputs))
        codec = Codec(spec.schema)
        config = plain_config(identity_of(job, spec))
        mine = Manifest(schema=codec.text, config=config, inputs=inputs, part_size=task.head.part_size)
        task.head.refuse_other(mine, task.directory)
        retry = retry_of(job, spec)
        if remote.files is not None and retry is not None and not retry.whole:
            raise ConfigError(
                f"retry_engine_rejects=true: workers do not see {task.directory}, which has the results that stand. "
                "Give workers=1 with an engine on this machine, or an output_dir on a disk that all machines share"
            )
        shard = Shard(remote, task.head, directory, codec, retry)
        _do_rounds(remote, spec, shard, task)
    finally:
        spec.close()


class _Counts:
    """What this worker has done and asked for, said now and then, also while nothing arrives."""

    def __init__(self, remote: _Remote, spec: StageSpec, shard: Shard) -> None:
        self._remote, self._spec, self._shard = remote, spec, shard
        self._count, self._reasons = 0, list[str]()
        self._cadence, self._lock, self._closed = Cadence(COUNTED_EVERY), threading.Lock(), threading.Event()
        threading.Thread(target=self._keep_up, daemon=True).start()

    def add(self, result: ItemResult) -> None:
        if result.failure is None:
            with self._lock:
                self._count += 1
                self._reasons.extend(reject.reason for reject in result.rejects)
        if self._cadence.due():
            self.send()

    def send(self, last: bool = False) -> None:
        with self._lock:
            usages, recorded = list(self._spec.usages), self._shard.recorded
            self._remote.send("count", self._count, tuple(self._reasons), usages, recorded, last)
            self._count = 0
            self._reasons.clear()
            self._cadence.restart()

    def close(self) -> None:
        self._closed.set()

    def _keep_up(self) -> None:
        with suppress(OSError):  # the coordinator has gone
            while not self._closed.wait(1.0):
                if self._count and self._cadence.due():
                    self.send()


def _do_rounds(remote: _Remote, spec: StageSpec, shard: Shard, task: WorkerTask) -> None:
    """Streams of items, each over as many parts as there are to be had."""
    counts = _Counts(remote, spec, shard)
    try:
        while (given := remote.wait_for_part()) is not None:
            if given[1] is None:
                do_parts(spec, shard, task.run, counts.add)
            else:
                for result in _suspected(remote, spec, shard, task, given, counts.send):
                    counts.add(result)
            if task.job.tracking.enabled:
                remote.send("traces", spec.traces(task.job.tracking.traces))
            if (metrics := spec.all_items_metrics()) is not None:
                remote.send("metrics", metrics)
            counts.send()
    except BaseException:
        counts.send(last=True)
        raise
    finally:
        counts.close()


def _suspected(
    remote: _Remote, spec: StageSpec, shard: Shard, task: WorkerTask, given: tuple[Assignment, Suspects | None],
    served: Callable[[], None],
) -> Iterator[ItemResult]:  # fmt: skip
    """Results of a part that has ended several workers: each few items are named before they are asked.

    Before them all, the worker serves another, whose result is thrown away: what ends it there is no fault of these.
    Those that are asked alone come last, those that ended most workers at the very end.
    """
    suspects = given[1] or Suspects()
    items = list(usable(shard, shard.todo(spec.items_after, seeks=spec.items_from is not None)))
    for item in items:
        if item.key in suspects.deadly:
            _give_up(item, shard, task.job.engine.reject_failed)
    blocks = _blocks([item for item in items if item.key not in suspects.deadly], suspects)
    if blocks:
        parts = [*suspects.committed, given[0].index]
        if known := _to_try(spec, parts, task.head.part_size, {item.key for item in items}):
            for _ in spec.process(iter([known]), task.run):
                pass
            served()
    for block in blocks:
        remote.send("at", [item.key for item in block])
        for result in spec.process(iter(block), task.run):
            record(shard, result)
            yield result
        served()
    remote.send("at", [])


def _blocks(items: list[WorkItem], suspects: Suspects) -> list[list[WorkItem]]:
    several = [item for item in items if item.key not in suspects.alone]
    alone = [item for item in items if item.key in suspects.alone]
    blocks = [several[i : i + TOGETHER] for i in range(0, len(several), TOGETHER)]
    return blocks + [[item] for item in sorted(alone, key=lambda item: suspects.alone[item.key])]


def _to_try(spec: StageSpec, parts: Sequence[int], size: int, left: Set[str]) -> WorkItem | None:
    """An item that shows whether this worker serves at all: one of these parts that has its result."""
    for part in parts:
        items = itertools.islice(spec.items_after(part * size), size)
        if known := [item for item in items if item.key not in left and not isinstance(item.payload, BadRow)]:
            return not_in_store(random.choice(known))
    return None


def _give_up(item: WorkItem, shard: Shard, reject: bool) -> None:
    detail = "its worker ended each time it was asked"
    if reject:
        given = item.payload if isinstance(item.payload, list) else [getattr(item.payload, "row", item.payload)]
        rows = [row for row in given if isinstance(row, dict)] or [{"id": item.key}]
        shard.record(item.key, rejects=[Reject(row=row, reason="engine", detail=detail) for row in rows])
    else:
        shard.fail(item.key, f"{detail} (item {item.key})")


def main() -> None:
    """`python -m sq.synth.worker ADDRESS NUMBER`, the key in the environment: how a coordinator starts one."""
    key = bytes.fromhex(os.environ.pop("SQ_WORKER_KEY"))
    work(sys.argv[1], key, int(sys.argv[2]))
    os._exit(0)  # nothing is left to do: an engine's own threads and handlers may hold an exit up


if __name__ == "__main__":
    main()
