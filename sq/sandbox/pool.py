"""The sandbox: programs in, outcomes out, by as many workers as there are cores.

with Sandbox(SandboxConfig()) as sandbox:
    for outcome in sandbox.run(programs):
        ...
"""

from __future__ import annotations

import logging
import os
import queue
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from sq.sandbox.config import SandboxConfig
from sq.sandbox.isolation import Isolation, strongest
from sq.sandbox.programs import Program, ProgramResult
from sq.sandbox.worker import SandboxWorker

log = logging.getLogger(__name__)
_CHUNK = 8


class Sandbox:
    """A pool of workers; a context manager, usable from several threads at once.

    Args:
        config: the limits of a program and the isolation that is enough.

    Raises:
        EngineError: if the system allows no isolation that is enough.
    """

    def __init__(self, config: SandboxConfig | None = None) -> None:
        self.config = config or SandboxConfig()
        self.isolation: Isolation
        self.isolation, first = strongest(self.config)
        log.info("sandbox: %s", self.isolation)
        if self.isolation.refused:
            log.warning("sandbox: stronger isolation is not allowed here: %s", self.isolation.refused)
        count = self.config.workers or _cores()
        self._workers = [first, *(SandboxWorker(self.config, self.isolation.tier) for _ in range(count - 1))]
        self._idle: queue.SimpleQueue[SandboxWorker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="sandbox")
        self._finalizer = weakref.finalize(self, _shut, self._threads, self._workers)

    def run(self, programs: Iterable[Program]) -> Iterator[ProgramResult]:
        """The outcomes of programs, in order, reading ahead only as far as the workers need."""
        stream = iter(programs)
        waiting: deque[Future[list[ProgramResult]]] = deque()
        while True:
            while len(waiting) < 2 * len(self._workers) + 2:
                chunk = list(islice(stream, _CHUNK))
                if not chunk:
                    break
                waiting.append(self._threads.submit(self._chunk, chunk))
            if not waiting:
                return
            yield from waiting.popleft().result()

    def run_one(self, program: Program) -> ProgramResult:
        """The outcome of a single program."""
        return next(self.run([program]))

    def close(self) -> None:
        """End every worker; no process is left."""
        self._finalizer()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _chunk(self, programs: list[Program]) -> list[ProgramResult]:
        worker = self._idle.get()
        try:
            return [worker.run(program) for program in programs]
        finally:
            self._idle.put(worker)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shut(threads: ThreadPoolExecutor, workers: list[SandboxWorker]) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.stop()
