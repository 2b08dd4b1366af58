"""The coordinator of a stage's workers: it gives out numbers of parts, and commits what comes back.

A worker is a process with an engine of its own (`worker.py`), on this machine or wherever a `Launcher` starts it. Which
worker does which part decides nothing. What one that fails had not written goes to the others. It has failed when its
process ends or when it meets an error of any kind: what is wrong may be its own machine's. It is taken out after three
failures with no part done in between; the stage ends where none is left, or where all say the same. Whether it is due
to a row instead, `suspects.py` has; an end that came from outside (`WorkerEnd`) is nobody's failure.
"""

from __future__ import annotations

import logging
import secrets
import selectors
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.errors import EndpointError, EngineError, SqError
from sq.core.files import SHARED
from sq.core.ledger import Ledger
from sq.core.progress import Progress
from sq.core.shard import Assignment, PartKeys, other_items
from sq.core.tracking import ItemTrace
from sq.engine.ray import WorkerEnd
from sq.synth.connections import WorkerConnections
from sq.synth.launchers import Launcher, job_of_each
from sq.synth.places import LOST_SECONDS, SERVING_SECONDS, TRIES, Worker, able_workers, hung_worker, parts_ahead
from sq.synth.stage import StageSpec
from sq.synth.stage_metrics import StageMetrics
from sq.synth.suspects import SuspectedParts, Suspects
from sq.synth.worker import WorkerTask

if TYPE_CHECKING:
    from sq.synth.config import SynthJob

log = logging.getLogger(__name__)
NO_WORKER_SECONDS = 45.0
"""Seconds in which no worker is there before the stage ends."""
WARN_SECONDS = 60.0
"""Seconds without a worker after which that is said, and said again."""
EXIT_SECONDS = 20.0
"""Seconds that workers have to end in their own way."""
CHECK_SECONDS = 1.0
"""Seconds between two looks at the workers' processes."""
PAUSE_SECONDS = 5.0
"""Seconds before a worker starts again whose process did not last as long."""


class WorkerPool:
    """All workers of one stage, until it has nothing left to do."""

    def __init__(
        self, job: SynthJob, spec: StageSpec, ledger: Ledger, run: str, launcher: Launcher, file: StageMetrics
    ) -> None:
        self._ledger, self._spec, self._launcher, self._file = ledger, spec, launcher, file
        self._name, self._ahead = job.stage.name, parts_ahead(spec, ledger.manifest.part_size, job.workers)
        self._workers = [Worker(number) for number in range(job.workers)]
        self._connections = WorkerConnections(launcher.address)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._connections.wakeup, selectors.EVENT_READ)
        marker = f"{SHARED}{secrets.token_hex(8)}"
        self._task = WorkerTask(
            job=job_of_each(job), run=run, head=ledger.manifest.without_parts(), directory=ledger.directory,
            marker=marker, working_directory=Path.cwd(),
        )  # fmt: skip
        self._again: list[int] = []
        self._left: set[int] = set()  # parts of which items have failed
        self._recorded: dict[int, int] = {}  # results in the journals of parts that are at work
        self._checked: dict[int, str] = {}  # the digest of a part's keys, once a worker has read them
        self._suspects = SuspectedParts()
        self._asks = bool(job.stage.engines(job))
        self._failures: list[str] = []
        self.traces: list[ItemTrace] = []  # what one worker's models were asked for their first items
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
        done, of = lambda: self._ledger.done + sum(list(self._recorded.values())), self._spec
        with Progress(self._ledger.directory, self._name, of.unit, total=of.total, done=done) as self._progress:
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
                for process in filter(None, [worker.process for worker in self._workers]):
                    process.kill()
                self._launcher.close()
                self._file.write()
        return self._failures

    def _start(self, worker: Worker) -> None:
        worker.error = worker.due = worker.lost_at = None
        worker.starts += 1
        worker.started_at = time.monotonic()
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
        number, came_at, link = self._connections.arrived.get()
        worker = self._workers[number]
        if worker.process is None or worker.link is not None or came_at < worker.started_at:  # of one that was given up
            return link.close()
        worker.link = link
        worker.has_spoken(time.monotonic())
        self._selector.register(link, selectors.EVENT_READ, worker)
        self._seen, self._patience = time.monotonic(), NO_WORKER_SECONDS

    def _receive(self, worker: Worker) -> None:
        """Take one message of a worker."""
        assert worker.link is not None
        try:
            kind, *given = worker.link.recv()
        except BlockingIOError:
            return self._worker_failed(worker, WorkerEnd("it stopped in the middle of a message"))
        except (EOFError, OSError):
            return self._disconnect(worker)  # how its process ended is seen by `_check_processes`
        worker.has_spoken(time.monotonic())
        if kind == "error":
            return self._on_error(worker, *given)
        reply = getattr(self, f"_on_{kind}")(worker, *given)
        if reply is not None:
            worker.send(reply[0])

    def _on_task(self, worker: Worker) -> tuple[WorkerTask]:
        return (self._task,)

    def _on_next(self, worker: Worker, waits: bool) -> tuple[Any] | None:
        given = self._next(worker, waits)
        worker.waits = waits and given is None
        return None if worker.waits else (given,)

    def _on_begin(self, worker: Worker, keys: PartKeys) -> None:
        before = self._checked.get(keys.index)
        if before not in (None, keys.digest):
            raise other_items(self._ledger.directory, keys.index * self._ledger.manifest.part_size)
        self._ledger.begin(keys, again=before is not None)
        self._checked[keys.index] = keys.digest
        if not keys.count or self._ledger.stands(keys.index):
            worker.parts.discard(keys.index)
            self._give_to_waiting()

    def _on_drop(self, worker: Worker, part: Any) -> tuple[None]:
        self._ledger.drop(part)
        return (None,)

    def _on_at(self, worker: Worker, keys: list[str]) -> None:
        worker.at = keys

    def _on_count(
        self, worker: Worker, count: int, rejects: Sequence[str], usages: Sequence[Any], recorded: Mapping[int, int],
        last: bool = False,
    ) -> None:  # fmt: skip
        asked = any(usage.requests or usage.scored for usage in usages) or (count and not self._asks)
        if asked and not last:  # the last is before an error, which may be all that it served
            worker.served, worker.result_at = True, time.monotonic()
            self._suspects.has_served(worker.parts)
            if any(index in self._suspects for index in worker.parts):  # what it fails at there is a row's
                worker.failures = 0
        self._recorded.update((index, done) for index, done in recorded.items() if index in worker.parts)
        self._progress.update(count, rejects=rejects)
        self._file.of_worker((worker.number, worker.starts), usages)
        self._file.write_now_and_then()

    def _on_traces(self, _: Worker, traces: list[ItemTrace]) -> None:
        self.traces = self.traces or traces

    def _on_metrics(self, worker: Worker, metrics: Mapping[str, float]) -> None:
        self._spec.take_metrics(metrics)

    def _on_commit(self, worker: Worker, part: Any, computed: int, files: dict[str, bytes]) -> tuple[None]:
        if part.index not in worker.parts:
            return (None,)
        self._ledger.commit(part, computed, files)
        if computed and part.index not in self._suspects:
            worker.failures = 0
        self._end_part(worker, part.index)
        for other in self._workers:
            if other.down and other.failures < TRIES:  # what ended it is over, or was its own
                self._start_again(other)
        self._give_to_waiting()
        return (None,)

    def _on_leave(self, worker: Worker, index: int, done: int, failures: list[str]) -> None:
        self._ledger.leave(index, done, failures)
        self._left.add(index)
        self._failures += failures
        self._end_part(worker, index)
        self._give_to_waiting()

    def _end_part(self, worker: Worker, index: int) -> None:
        worker.parts.discard(index)
        worker.at = []
        self._suspects.done(index)
        self._recorded.pop(index, None)

    def _next(self, worker: Worker, waits: bool) -> tuple[Assignment, Suspects | None] | None:
        held = len(worker.parts)
        if held >= min((self._most_beside(i) for i in worker.parts), default=self._ahead):
            return None
        several = sum(other.served and other.link is not None for other in self._workers) > 1
        fitting = (i for i in self._again if held < self._most_beside(i))
        index = next((i for i in fitting if self._suspects.is_for(i, worker.number, waits, several)), None)
        if index is not None:
            self._again.remove(index)
            given: Assignment | None = self._ledger.assignment(index)
        else:
            given = self._ledger.next_part()
            self._all_given = self._all_given or given is None
        if given is None:
            return None
        worker.parts.add(given.index)
        suspects = self._suspects.of(given.index, [other.number for other in self._workers if other.served], several)
        committed = tuple(sorted(self._ledger.manifest.parts)[:1]) if suspects else ()
        return given, replace(suspects, committed=committed) if suspects else None

    def _most_beside(self, index: int) -> int:
        return self._suspects.most_beside(index, self._ahead)

    def _give_to_waiting(self) -> None:
        for worker in self._workers:
            if worker.waits and worker.link is not None and (given := self._next(worker, True)) is not None:
                worker.waits = False
                worker.send(given)

    def _check_processes(self) -> None:
        """See, now and then, whether the workers are there: one that cannot come, or lost its machine, says nothing."""
        now = time.monotonic()
        if now - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = now
        for worker in self._workers:
            if worker.due is not None and worker.due <= now:
                self._start(worker)
            elif worker.process is not None:
                self._check_process(worker, worker.process.ended(), now)
                worker.warn_if_silent(now)
        if not self._spec.in_turns and (hung := hung_worker(self._workers, self._suspects.handed_over, now)):
            why = f"it gave no result for {now - hung.heard_at:.0f} s, and others wait for parts"
            self._suspects.handed_over.update(hung.parts)
            self._worker_failed(hung, WorkerEnd(why, from_outside=True))
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

    def _check_process(self, worker: Worker, end: WorkerEnd | None, now: float) -> None:
        if worker.lost_at is not None and now - worker.lost_at > LOST_SECONDS:
            end = end or WorkerEnd("its connection has ended")
        if end is None:
            return
        if worker.link is None or (worker.gone and not worker.link.poll()):
            self._worker_failed(worker, end)
        else:  # what it has sent is read first
            worker.gone = True

    def _on_error(self, worker: Worker, kind: type[SqError] | None, text: str) -> None:
        error = kind(text) if kind is not None else RuntimeError(f"a worker has failed:\n{text}")
        since = time.monotonic() - SERVING_SECONDS
        if isinstance(error, EndpointError) and all(other.result_at < since for other in self._workers):
            raise error  # each that is given its parts would wait as long, and say the same
        self._worker_failed(worker, WorkerEnd(str(error)), error)

    def _worker_failed(self, worker: Worker, end: WorkerEnd, error: Exception | None = None) -> None:
        """A worker has met an error, or its process has ended: its parts are for others, its place for a new one."""
        if not end.from_outside or self._suspects.add_outside(worker.parts):
            worker.failures += 1
            self._suspects.add(worker.number, worker.parts, worker.at)
        self._take_back(worker)
        worker.error = error
        if worker.failures >= TRIES:
            log.warning("worker %d: %s, the third failure with no part done: it is taken out", worker.number, end.why)
        elif error is not None:
            log.warning("worker %d: %s", worker.number, end.why)
        else:
            log.warning("worker %d: %s; it is started again", worker.number, end.why)
            self._start_again(worker)
        if all(other.down for other in self._workers):
            by_a_row = self._suspects.any_ended_twice()
            if len(self._workers) == 1:  # no other can show that its engine works
                by_a_row |= worker.served or bool(self._ledger.manifest.parts)
            for other in able_workers(self._workers, by_a_row, self._name, end.why):
                self._start_again(other)
        self._give_to_waiting()

    def _start_again(self, worker: Worker) -> None:
        """Soon where its process did not last: what ends one at its start may be over then."""
        if (now := time.monotonic()) - worker.started_at >= PAUSE_SECONDS:
            return self._start(worker)
        worker.due = now + PAUSE_SECONDS

    def _disconnect(self, worker: Worker) -> None:
        if worker.link is not None:
            self._selector.unregister(worker.link)
            worker.link.close()
        worker.link, worker.waits, worker.lost_at = None, False, time.monotonic()

    def _take_back(self, worker: Worker) -> None:
        self._disconnect(worker)
        if worker.process is not None:
            worker.process.kill()
        worker.process, worker.due, worker.gone, worker.lost_at = None, None, False, None
        self._again = sorted({*self._again, *worker.parts})
        worker.parts, worker.at = set(), []

    def _wait_for_exits(self) -> None:
        """Let engines stop in their own way, for some seconds."""
        for worker in self._workers:
            if worker.waits:
                worker.send(self._left)
        until = time.monotonic() + EXIT_SECONDS
        leaving = [worker.process for worker in self._workers if worker.waits and worker.process]
        while time.monotonic() < until and any(process.ended() is None for process in leaving):
            time.sleep(0.05)
