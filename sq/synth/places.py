"""Places for a stage's workers, as the coordinator sees them."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from sq.core.errors import EngineError
from sq.synth.launchers import WorkerProcess
from sq.synth.stage import StageSpec

log = logging.getLogger(__name__)
AHEAD = 16
"""Parts that one worker may have begun: what a stage reads before it asks is no reason to take all of them."""
SILENT_SECONDS = 60.0
"""Seconds without a word from a worker that has parts, after which that is said."""
HUNG_SECONDS = 300.0
"""Seconds without a word after which a worker's parts are for one that waits."""
LOST_SECONDS = 10.0
"""Seconds for the system, or Ray, to say how a process ended whose connection has."""
SERVING_SECONDS = 20.0
"""Seconds after a result in which its worker counts as served."""
TRIES = 3
"""Times that a worker may fail with no part done in between."""


@dataclass(slots=True, eq=False)
class Worker:
    """A place for a worker, and the process that is there now."""

    number: int
    process: WorkerProcess | None = None
    starts: int = 0
    """How many processes have been started here."""
    started_at: float = 0.0
    due: float | None = None
    """When the next one is to be started."""
    link: Connection | None = None
    lost_at: float | None = None
    """When its connection ended; how its process did is not known yet."""
    parts: set[int] = field(default_factory=set)
    at: list[str] = field(default_factory=list)
    """The items of a suspected part that it is at."""
    waits: bool = False
    """For a part, with nothing in flight."""
    gone: bool = False
    """Its process had ended when that was last looked at."""
    heard_at: float = 0.0
    silent: float = SILENT_SECONDS
    """Seconds without a word after which that is said next."""
    longest: float = 0.0
    """Most seconds without a word, at some parts, before the next one."""
    result_at: float = -math.inf
    """When its engine last gave a result."""
    failures: int = 0
    served: bool = False
    """Whether its engine has given any result here: what it fails at may then be a row's fault."""
    error: Exception | None = None
    """What ended it, where it is not to start before another worker has done a part."""

    @property
    def down(self) -> bool:
        """Whether nothing runs here, nor is to be started."""
        return self.process is None and self.due is None

    def has_spoken(self, now: float) -> None:
        """A message of it has come."""
        self.longest = max(self.longest, now - self.heard_at if self.parts else 0.0)
        self.heard_at, self.silent = now, SILENT_SECONDS

    def warn_if_silent(self, now: float) -> None:
        """Say that nothing has come of its parts, after a minute and then after twice as long each time."""
        if self.link is None or not self.parts or now - self.heard_at <= self.silent:
            return
        self.silent *= 2
        log.warning(
            "worker %d has given no result for %.0f s (part %s). Its engine is starting, at long replies, or hangs. "
            "Where no other part is left, one that waits is given its parts in the end",
            self.number, now - self.heard_at, ", ".join(map(str, sorted(self.parts)[:4])),
        )  # fmt: skip

    def send(self, message: Any) -> None:
        """Send to it; that it has gone is seen when its connection is read."""
        self.heard_at = time.monotonic()  # it said nothing as there was nothing to say
        if self.link is not None:
            with suppress(OSError):
                self.link.send(message)


def parts_ahead(spec: StageSpec, size: int, workers: int) -> int:
    """How many parts of so many items a worker may have begun."""
    if spec.whole:
        return sys.maxsize
    if spec.in_turns and spec.total:  # a worker's share at once: else its models are loaded for every few parts
        return max(1, math.ceil(spec.total / size / workers))
    return AHEAD


def hung_worker(workers: Sequence[Worker], handed_over: Mapping[int, int], now: float) -> Worker | None:
    """One that is ended for those that wait, having said nothing of its parts for much longer than any did before.

    Its results are in the journals; what it was asked is asked again. Should it have been at a long reply, the next has
    twice as long each time.
    """
    if not any(worker.waits for worker in workers):
        return None
    seconds = max(HUNG_SECONDS, 3 * max(worker.longest for worker in workers))
    for worker in workers:
        patience = seconds * 2 ** max((handed_over[index] for index in worker.parts), default=0)
        if worker.link is not None and worker.parts and now - worker.heard_at > patience:
            return worker
    return None


def able_workers(workers: Sequence[Worker], by_a_row: bool, stage: str, why: str) -> list[Worker]:
    """Those to start again, where all are down; `by_a_row`: a row may have ended several of them.

    Raises:
        Exception: where none may be, or all that can say the same, of which no row is the cause.
    """
    errors = [worker.error for worker in workers if worker.error is not None]
    texts = {re.sub(r"\d+", "#", f"{type(error)} {error}") for error in errors}
    by_a_row = by_a_row and any(isinstance(error, EngineError | RuntimeError) for error in errors)
    able = [worker for worker in workers if worker.failures < TRIES]
    if able and (len(texts) > 1 or len(errors) < len(workers) or by_a_row):
        return able
    if errors:
        raise errors[-1]
    raise EngineError(
        f"{stage}: every worker has failed {TRIES} times with no part done. The last: {why}. What a process says "
        "before it ends is above, and in engine-N.log for worker N; where nothing is said, memory is the usual cause. "
        "The same command goes on"
    )
