"""The coordinator of a stage's workers: it gives out numbers of parts, and commits what comes back.

A worker is a process with an engine of its own (`worker.py`), on this machine or wherever a `Launcher` starts it. Which
worker does which part decides nothing. What one that ends had not written goes to the others; a worker that ends three
times with no part done in between is taken out; a part that has ended three is looked at a few rows at a time.
"""

from __future__ import annotations

import logging
import math
import secrets
import selectors
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.errors import EngineError, SqError
from sq.core.files import SHARED
from sq.core.ledger import Ledger
from sq.core.progress import Progress
from sq.core.shard import Assignment, PartKeys, other_items
from sq.core.tracking import ItemTrace
from sq.synth.connections import WorkerConnections
from sq.synth.launchers import Launcher, WorkerProcess, job_of_each
from sq.synth.stage import StageSpec
from sq.synth.stage_metrics import StageMetrics
from sq.synth.worker import Suspects, WorkerTask

if TYPE_CHECKING:
    from sq.synth.config import SynthJob

log = logging.getLogger(__name__)
TRIES = 3
"""Times that a worker may end with no part done in between, and workers that a part may end."""
AHEAD = 16
"""Parts that one worker may have begun: what a stage reads before it asks is no reason to take all of them."""
NO_WORKER_SECONDS = 45.0
"""Seconds in which no worker is there before the stage ends."""
WARN_SECONDS = 60.0
"""Seconds without a worker after which that is said, and said again."""
EXIT_SECONDS = 20.0
"""Seconds that workers have to end in their own way."""
CHECK_SECONDS = 1.0
"""Seconds between two looks at the workers' processes."""


@dataclass(slots=True, eq=False)
class _Worker:
    """A place for a worker, and the process that is there now."""

    number: int
    process: WorkerProcess | None = None
    starts: int = 0
    """How many processes have been started here."""
    link: Connection | None = None
    parts: set[int] = field(default_factory=set)
    at: list[str] = field(default_factory=list)
    """The items of a suspected part that it is at."""
    waits: bool = False
    """For a part, with nothing in flight."""
    gone: bool = False
    """Its process had ended when that was last looked at."""
    failures: int = 0
    error: SqError | None = None
    """What ended it, where it is not to start before another worker has done a part."""


class WorkerPool:
    """All workers of one stage, until it has nothing left to do."""

    def __init__(
        self, job: SynthJob, spec: StageSpec, ledger: Ledger, run: str, launcher: Launcher, file: StageMetrics
    ) -> None:
        self._ledger, self._spec, self._launcher, self._file = ledger, spec, launcher, file
        self._name, self._ahead = job.stage.name, AHEAD
        if spec.whole:
            self._ahead = sys.maxsize
        elif spec.in_turns and spec.total:  # a worker's share at once: else its models are loaded for every few parts
            self._ahead = max(1, math.ceil(spec.total / job.part_size / job.workers))
        self._workers = [_Worker(number) for number in range(job.workers)]
        self._connections = WorkerConnections(launcher.address)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._connections.wakeup, selectors.EVENT_READ)
        marker = f"{SHARED}{secrets.token_hex(8)}"
        self._task = WorkerTask(
            job=job_of_each(job), run=run, head=ledger.manifest.without_parts(), directory=ledger.directory,
            marker=marker, working_directory=Path.cwd(),
        )  # fmt: skip
        self._again: list[int] = []
        self._checked: dict[int, str] = {}  # the digest of a part's keys, once a worker has read them
        self._ended: Counter[int] = Counter()
        self._suspects: dict[int, Suspects] = {}
        self._failures: list[str] = []
        self.traces: list[ItemTrace] = []
        """What one worker's models were asked for their first items."""
        self._checked_at = self._seen = time.monotonic()
        self._patience, self._warn_after = launcher.patience, WARN_SECONDS
        self._all_given, self._over = False, 0.0

    def run(self) -> list[str]:
        """Do all parts; the errors of the items that failed.

        Raises:
            SqError: where the stage cannot go on.
        """
        marker = self._task.directory / self._task.marker
        marker.touch()
        with Progress(
            self._ledger.directory, self._name, self._spec.unit, total=self._spec.total, done=self._ledger.done
        ) as self._progress:
            try:
                for worker in self._workers:
                    self._start(worker)
                while not self._is_over() or self._awaits_last_counts():
                    for ready, _ in self._selector.select(timeout=CHECK_SECONDS):
                        if ready.data is None:
                            self._accept_worker()
                        elif ready.data.link is ready.fileobj:  # else it was lost by what another said
                            self._receive(ready.data)
                    self._check_processes()
                self._wait_for_exits()
            finally:
                marker.unlink(missing_ok=True)
                self._selector.close()
                self._connections.close()
                for worker in self._workers:
                    if worker.process is not None:
                        worker.process.kill()
                self._launcher.close()
                self._file.write()
        return self._failures

    def _start(self, worker: _Worker) -> None:
        worker.error, worker.starts = None, worker.starts + 1
        worker.process = self._launcher.start(worker.number, self._connections.address, self._connections.key)

    def _is_over(self) -> bool:
        return self._all_given and not self._again and not any(worker.parts for worker in self._workers)

    def _awaits_last_counts(self) -> bool:
        """Whether, for some seconds after the end, a worker has not said yet what its last items took."""
        self._over = self._over or time.monotonic()
        talking = any(worker.link is not None and not worker.waits for worker in self._workers)
        return talking and time.monotonic() - self._over < EXIT_SECONDS

    def _accept_worker(self) -> None:
        self._connections.wakeup.recv_bytes()
        number, link = self._connections.arrived.get()
        worker = self._workers[number]
        if worker.process is None or worker.link is not None:  # of a process that was given up
            return link.close()
        worker.link = link
        self._selector.register(link, selectors.EVENT_READ, worker)
        self._seen, self._patience = time.monotonic(), NO_WORKER_SECONDS

    def _receive(self, worker: _Worker) -> None:
        """Take one message of a worker."""
        assert worker.link is not None
        try:
            kind, *given = worker.link.recv()
        except BlockingIOError:
            return self._worker_ended(worker, "it stopped in the middle of a message")
        except (EOFError, OSError):
            return self._worker_ended(worker, "its process or its connection has ended")
        if kind == "error":
            return self._worker_failed(worker, *given)
        reply = getattr(self, f"_on_{kind}")(worker, *given)
        if reply is not None:
            _send(worker, reply[0])

    def _on_task(self, worker: _Worker) -> tuple[WorkerTask]:
        return (self._task,)

    def _on_next(self, worker: _Worker, waits: bool) -> tuple[Any] | None:
        given = self._next(worker, waits)
        worker.waits = waits and given is None
        return None if worker.waits else (given,)

    def _on_begin(self, worker: _Worker, keys: PartKeys) -> None:
        before = self._checked.get(keys.index)
        if before not in (None, keys.digest):
            raise other_items(self._ledger.directory, keys.index * self._ledger.manifest.part_size)
        self._ledger.begin(keys, again=before is not None)
        self._checked[keys.index] = keys.digest
        if not keys.count or self._ledger.stands(keys.index):
            worker.parts.discard(keys.index)
            self._give_to_waiting()

    def _on_drop(self, worker: _Worker, part: Any) -> tuple[None]:
        self._ledger.drop(part)
        return (None,)

    def _on_at(self, worker: _Worker, keys: list[str]) -> None:
        worker.at = keys

    def _on_count(self, worker: _Worker, count: int, rejects: Sequence[str], usages: Sequence[Any]) -> None:
        self._progress.update(count, rejects=rejects)
        self._file.of_worker((worker.number, worker.starts), usages)
        self._file.write_now_and_then()

    def _on_traces(self, worker: _Worker, traces: list[ItemTrace]) -> None:
        self.traces = self.traces or traces

    def _on_metrics(self, worker: _Worker, metrics: Mapping[str, float]) -> None:
        self._spec.take_metrics(metrics)

    def _on_commit(self, worker: _Worker, part: Any, computed: int, files: dict[str, bytes]) -> None:
        if part.index not in worker.parts:
            return
        self._ledger.commit(part, computed, files)
        worker.parts.discard(part.index)
        worker.at, worker.failures = [], 0
        for other in self._workers:
            if other.error is not None and other is not worker:  # what ended it is over, or was its own
                self._start(other)
        self._give_to_waiting()

    def _on_leave(self, worker: _Worker, index: int, done: int, failures: list[str]) -> None:
        self._ledger.leave(index, done, failures)
        self._failures += failures
        worker.parts.discard(index)
        worker.at = []
        self._give_to_waiting()

    def _next(self, worker: _Worker, waits: bool) -> tuple[Assignment, Suspects | None] | None:
        if not waits and len(worker.parts) >= self._ahead:
            return None
        index = next((i for i in self._again if i not in self._suspects or (waits and not worker.parts)), None)
        if index is not None:
            self._again.remove(index)
            given: Assignment | None = self._ledger.assignment(index)
        else:
            given = self._ledger.next_part()
            self._all_given = self._all_given or given is None
        if given is None:
            return None
        worker.parts.add(given.index)
        return given, self._suspects.get(given.index)

    def _give_to_waiting(self) -> None:
        for worker in self._workers:
            if worker.waits and worker.link is not None and (given := self._next(worker, True)) is not None:
                worker.waits = False
                _send(worker, given)

    def _check_processes(self) -> None:
        """See, now and then, whether the workers are there: one that cannot come, or lost its machine, says nothing."""
        now = time.monotonic()
        if now - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = now
        for worker in self._workers:
            if worker.process is None or (why := worker.process.ended()) is None:
                continue
            if worker.link is None or (worker.gone and not worker.link.poll()):
                self._worker_ended(worker, why)
            else:  # what it has sent is read first
                worker.gone = True
        away = now - self._seen
        if any(worker.link is not None for worker in self._workers):
            self._seen, self._warn_after = now, WARN_SECONDS
        elif away > self._patience:
            raise EngineError(
                f"no worker has been there for {away:.0f} s: is the cluster gone, or has it no room for "
                "one? Run the same command again: nothing that is recorded is lost"
            )
        elif away > self._warn_after:
            self._warn_after += WARN_SECONDS
            log.warning("no worker for %.0f s: is there room for one (`ray status`)?", away)

    def _worker_ended(self, worker: _Worker, why: str) -> None:
        """A worker's process has ended: its parts are for others, and a new process is for its place."""
        if worker.at:
            self._narrow(worker)
        else:
            worker.failures += 1
        self._take_back(worker)
        if worker.failures < TRIES:
            log.warning("worker %d: %s; it is started again", worker.number, why)
            self._start(worker)
        else:
            log.warning("worker %d: %s, the third time with no part done: it is taken out", worker.number, why)
        if all(other.process is None for other in self._workers):
            raise next((other.error for other in self._workers if other.error is not None), None) or EngineError(
                f"{self._name}: every worker has ended {TRIES} times with no part done. The last: {why}. What a "
                f"process says before it ends is above, and in engine-{worker.number}.log; memory is the usual cause. "
                "The same command goes on"
            )
        self._give_to_waiting()

    def _worker_failed(self, worker: _Worker, kind: type[SqError] | None, text: str) -> None:
        """A worker has met an error: what is the engine's may be its own alone, all else is everybody's."""
        if kind is None:
            raise RuntimeError(f"worker {worker.number}:\n{text}")
        if not issubclass(kind, EngineError):
            raise kind(text)
        self._take_back(worker)
        worker.failures += 1
        worker.error = kind(text) if worker.failures < TRIES else None
        log.warning("worker %d: %s", worker.number, text)
        if all(other.process is None for other in self._workers):
            raise kind(text)
        self._give_to_waiting()

    def _take_back(self, worker: _Worker) -> None:
        if worker.link is not None:
            self._selector.unregister(worker.link)
            worker.link.close()
        if worker.process is not None:
            worker.process.kill()
        worker.link, worker.process, worker.waits, worker.gone = None, None, False, False
        if not worker.at:
            self._ended.update(worker.parts)
            for index in worker.parts:
                if self._ended[index] >= TRIES and index not in self._suspects:
                    log.warning("part %d has ended %d workers: its items are asked a few at a time", index, TRIES)
                    self._suspects[index] = Suspects()
        self._again = sorted({*self._again, *worker.parts})
        worker.parts, worker.at = set(), []

    def _narrow(self, worker: _Worker) -> None:
        """The suspected part ended one more worker: at one of these items."""
        (index,) = worker.parts
        known, keys = self._suspects[index], frozenset(worker.at)
        dead = known.dead | (keys if len(keys) == 1 else frozenset())
        self._suspects[index] = Suspects(dead=dead, among=(known.among | keys) - dead)

    def _wait_for_exits(self) -> None:
        """Let engines stop in their own way, for some seconds."""
        for worker in self._workers:
            if worker.waits:
                _send(worker, None)
        until = time.monotonic() + EXIT_SECONDS
        leaving = [worker.process for worker in self._workers if worker.waits and worker.process]
        while time.monotonic() < until and any(process.ended() is None for process in leaving):
            time.sleep(0.05)


def _send(worker: _Worker, message: Any) -> None:
    """Send to a worker; that it has gone is seen when its connection is read."""
    if worker.link is not None:
        with suppress(OSError):
            worker.link.send(message)
