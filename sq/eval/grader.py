"""Grading many pairs in worker processes that can be killed: no answer hangs, crashes or exhausts the caller.

A worker that passes the deadline on a pair is killed from here and replaced, whatever it is doing, from any thread;
no signal handler is involved. Pairs go in as an iterable and grades come out in the same order.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from sq.core.thinking import tail
from sq.eval.boxes import in_a_box
from sq.eval.equal import math_verify
from sq.eval.extract import MAX_OUTPUT, AnswerLocation
from sq.eval.grade import Grade, Pair
from sq.eval.grade_status import GradeStatus
from sq.eval.grader_config import GraderConfig, Profile

_START_SECONDS = 120
_CHUNK = 16
_QUICK = 0.05
"""Seconds within which most pairs are decided: only where one is not is its processor time watched."""
_STARVED = 4
"""Deadlines a worker gets in all where the machine, not the pair, is slow."""


class Grader:
    """A pool of grading processes; a context manager, usable from several threads at once.

    Args:
        config: the profile, and the bounds of a worker.
    """

    def __init__(self, config: GraderConfig | None = None) -> None:
        self.config = config or GraderConfig()
        count = self.config.workers or len(os.sched_getaffinity(0))
        self._workers = [_Worker(self.config) for _ in range(count)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="grader")
        self._finalizer = weakref.finalize(self, _shut, self._threads, self._workers)

    def grade(self, pairs: Iterable[Pair], profile: Profile | str | None = None) -> Iterator[Grade]:
        """Grade pairs, in order, reading ahead only as far as the workers need.

        Args:
            pairs: any iterable; it is read as grades are taken.
            profile: whose rules decide, where not those of the config.
        """
        rules = Profile(profile or self.config.profile)
        stream = iter(pairs)
        waiting: deque[Future[list[Grade]]] = deque()
        while True:
            while len(waiting) < 2 * len(self._workers) + 2:
                chunk = list(islice(stream, _CHUNK))
                if not chunk:
                    break
                waiting.append(self._threads.submit(self._chunk, chunk, rules))
            if not waiting:
                return
            yield from waiting.popleft().result()

    def grade_one(self, pair: Pair, profile: Profile | str | None = None) -> Grade:
        """Grade a single pair."""
        return next(self.grade([pair], profile))

    def same_answers(
        self, pairs: Sequence[tuple[str, str]], relative_tolerance: float | Sequence[float] | None = None
    ) -> list[bool]:
        """Whether the two final answers of each pair say the same by profile strict: the equality of selection and of
        majorities. Equal texts are not compared, and a pair that comes twice is compared once."""
        asked = dict.fromkeys((a, b) for a, b in pairs if a.strip() != b.strip())
        boxed = (
            Pair(prediction=in_a_box(a), reference=in_a_box(b), relative_tolerance=relative_tolerance) for a, b in asked
        )
        same = {pair: grade.correct for pair, grade in zip(asked, self.grade(boxed, Profile.STRICT), strict=True)}
        return [same.get(pair, True) for pair in pairs]

    def close(self) -> None:
        """End every worker; no process is left."""
        self._finalizer()

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _chunk(self, pairs: list[Pair], rules: Profile) -> list[Grade]:
        worker = self._idle.get()
        try:
            return worker.grade(pairs, rules)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process, replaced when it is killed or dies."""

    def __init__(self, config: GraderConfig) -> None:
        self.config = config
        self.closed = False
        self._lock = threading.Lock()
        self._start()

    def grade(self, pairs: Sequence[Pair], rules: Profile) -> list[Grade]:
        """The grades of some pairs, each decided within the deadline; a pair that is killed costs no other its grade.

        Pairs are sent ahead, and those behind one that ends the process are sent again. Where the process died and did
        not run out of time, the pair that it was at is asked of a new one, once and alone.
        """
        deadline = max(self.config.deadline, math_verify.SECONDS if rules is Profile.MATH_VERIFY else 0)
        lines = [_request(pair, rules, deadline) for pair in pairs]
        grades: list[Grade] = []
        died = False
        while len(grades) < len(lines):
            left = lines[len(grades) :]
            try:
                for reply in self._replies(left[:1] if died else self._ahead(left), deadline):
                    grades.append(_grade(reply, rules))
                    died = False
                    if "error" in reply and not reply.get("fault"):
                        self._replace()
                        break
            except _DeadlineError as gone:
                self._replace()
                died = isinstance(gone, _DiedError) and not died
                if not died:
                    grades.append(Grade(profile=rules, status=GradeStatus.TIMEOUT, reason=str(gone)))
        return grades

    def _ahead(self, lines: Sequence[bytes]) -> Sequence[bytes]:
        """As many as the pipe takes while a pair hangs, or writing would hang with it; and one at least."""
        sizes = accumulate(len(line) for line in lines)
        return lines[: max(1, sum(size <= self._pipe_bytes for size in sizes))]

    def _replies(self, lines: Sequence[bytes], deadline: float) -> Iterator[dict[str, Any]]:
        self._await_ready()
        self._send(b"".join(lines))
        for _ in lines:
            yield json.loads(self._line(deadline, bounded=True))

    def stop(self) -> None:
        """End the process and wait for it."""
        with self._lock:
            self.closed = True
            self._kill()

    def _start(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sq.eval.worker", str(self.config.memory_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=root,
            env={"PYTHONPATH": root, "PATH": os.defpath, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        self._pipe_bytes = fcntl.fcntl(self._process.stdin, fcntl.F_GETPIPE_SZ) * 3 // 4
        self._buffer = b""
        self._ready = False

    def _await_ready(self) -> None:
        if not self._ready:
            self._line(_START_SECONDS, bounded=False)
            self._ready = True

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            while data:
                data = data[self._process.stdin.write(data) :]
        except (BrokenPipeError, OSError) as error:
            raise _DiedError("the grading process had died") from error

    def _line(self, deadline: float, *, bounded: bool) -> bytes:
        assert self._process.stdout is not None
        stream = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(stream, select.POLLIN | select.POLLHUP)
        seconds, start, used = deadline, time.monotonic(), 0.0
        if b"\n" not in self._buffer and not poll.poll(min(_QUICK, deadline / 10) * 1000):
            used = _cpu_seconds(self._process.pid)
        while b"\n" not in self._buffer:
            left = seconds - (time.monotonic() - start)
            if left <= 0:
                spent = _cpu_seconds(self._process.pid) - used
                starved = bounded and 0 <= spent < deadline / 2
                if not starved or seconds >= _STARVED * deadline:
                    raise _DeadlineError(f"not decided within {deadline:g} s")
                seconds += deadline
                continue
            if poll.poll(left * 1000):
                data = os.read(stream, 1 << 16)
                if not data:
                    raise _DiedError("the grading process died on this pair")
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _replace(self) -> None:
        with self._lock:
            if self.closed:
                raise RuntimeError("the grader is closed")
            self._kill()
            self._start()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


class _DeadlineError(Exception):
    """The worker gave no answer in time."""


class _DiedError(_DeadlineError):
    """The worker ended by itself, or was ended by someone else."""


def _request(pair: Pair, rules: Profile, deadline: float) -> bytes:
    pair = replace(pair, prediction=tail(pair.prediction, MAX_OUTPUT), reference=pair.reference[-MAX_OUTPUT:])
    return (json.dumps({"profile": rules.value, "pair": vars(pair), "deadline": deadline}) + "\n").encode("ascii")


def _grade(reply: Mapping[str, Any], rules: Profile) -> Grade:
    if "error" in reply:
        status = GradeStatus.UNVERIFIABLE if reply.get("fault") else GradeStatus.TIMEOUT
        return Grade(profile=rules, status=status, reason=reply["error"])
    return Grade(
        profile=rules,
        status=GradeStatus(reply["verdict"]),
        reason=reply["reason"],
        extracted=reply["extracted"],
        location=AnswerLocation(reply["where"]),
    )


def _shut(threads: ThreadPoolExecutor, workers: list[_Worker]) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.stop()


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process, where the system tells it (Linux); else a value that never looks starved."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return float("inf")
