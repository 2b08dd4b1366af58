"""The sandbox: programs in, results out, by as many workers as there are cores."""

from __future__ import annotations

import os
import queue
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from sq.sandbox.config import SandboxConfig
from sq.sandbox.isolation import start_strongest
from sq.sandbox.programs import Program, ProgramResult
from sq.sandbox.worker import SandboxWorker


class Sandbox:
    """A pool of workers; a context manager, usable from several threads at once.

    An EngineError is raised where the system allows no isolation that is enough.
    """

    def __init__(self, config: SandboxConfig | None = None) -> None:
        self.config = config or SandboxConfig()
        self.tier, first = start_strongest(self.config)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = self.config.workers or cores
        self._workers = [first, *(SandboxWorker(self.config, self.tier) for _ in range(count - 1))]
        self._idle: queue.SimpleQueue[SandboxWorker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="sandbox")
        self._finalizer = weakref.finalize(self, _close, self._threads, self._workers)

    def run(self, programs: Iterable[Program]) -> Iterator[ProgramResult]:
        """The results of programs, in order, reading ahead only as far as the workers need: tests may be large."""
        stream = iter(programs)
        waiting: deque[Future[ProgramResult]] = deque()
        while True:
            for program in islice(stream, 2 * len(self._workers) + 2 - len(waiting)):
                waiting.append(self._threads.submit(self._run, program))
            if not waiting:
                return
            yield waiting.popleft().result()

    def run_one(self, program: Program) -> ProgramResult:
        """The result of a single program."""
        return next(self.run([program]))

    def close(self) -> None:
        """End every worker; no process is left."""
        self._finalizer()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self, program: Program) -> ProgramResult:
        worker = self._idle.get()
        try:
            return worker.run(program)
        finally:
            self._idle.put(worker)


def _close(threads: ThreadPoolExecutor, workers: list[SandboxWorker]) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.stop()
