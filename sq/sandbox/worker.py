"""One sandbox worker seen from outside: its process, the jobs it is given, and the results of them."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Any

from sq.core.errors import EngineError
from sq.sandbox import messages, resource_usage
from sq.sandbox.cases import run_cases
from sq.sandbox.config import SandboxConfig
from sq.sandbox.inside.confine import FULL, Limits
from sq.sandbox.inside.filesystem import TMP
from sq.sandbox.plain_values import decode_plain, encode
from sq.sandbox.programs import (
    Asserts,
    Calls,
    Cases,
    Program,
    ProgramResult,
    ProgramStatus,
    Raised,
    Script,
    Unittests,
    count_unittests,
    equal_values,
)

_START_SECONDS = 60
_GRACE_SECONDS = 30
"""Seconds beyond the deadline after which a worker that ought to have ended a program is itself ended."""
_WATCH_SECONDS = 0.25
_ROOT = str(Path(__file__).resolve().parents[2])
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class RefusedError(Exception):
    """The system does not allow an isolation; the text says what was refused."""


class SandboxWorker:
    """A process that programs are forked from; started again if it dies. Not for several threads at once."""

    def __init__(self, config: SandboxConfig, tier: str) -> None:
        self._config, self._tier = config, tier
        self._lock = threading.Lock()
        self._closed = self._ready = False
        self._start()

    def await_ready(self) -> None:
        """Wait until it is ready; a RefusedError if the system does not allow its isolation."""
        if not self._ready:
            answer = self._receive(time.monotonic() + _START_SECONDS)
            if "refused" in answer:
                raise RefusedError(answer["refused"])
            self._ready = True

    def run(self, program: Program) -> ProgramResult:
        """The result of a program."""
        problem = _tests_problem(program.tests)
        if problem:
            return ProgramResult(status=ProgramStatus.INVALID, reason=problem)
        if isinstance(program.tests, Cases):
            return run_cases(program.tests, lambda test: self.run(Program(source=program.source, tests=test)))
        kind, code, tests = _job_of(program)
        for _attempt in (1, 2):
            try:
                self.await_ready()
                self._send(kind, code, tests)
                report = self._receive(time.monotonic() + self._config.wall_seconds + _GRACE_SECONDS)
                return _result_of(program, report)
            except messages.DisconnectedError as error:
                self._replace()
                problem = str(error)
        reason = f"the sandbox's own process ended twice on it ({problem})"
        return _result_of(program, {"status": "crashed", "reason": reason})

    def stop(self) -> None:
        """End the process, and with it all that it started."""
        with self._lock:
            self._closed = True
            self._kill()

    def _start(self) -> None:
        self._ready = False
        self._tmp = tempfile.mkdtemp(prefix="sq-sandbox-") if self._tier != FULL else TMP
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        limits = {name: value for name, value in asdict(self._config).items() if name in Limits._fields}
        paths = sysconfig.get_paths()
        packages = sorted({paths["purelib"], paths["platlib"]}) if self._config.packages else []
        settings = {"socket": theirs.fileno(), "tier": self._tier, "tmp": self._tmp, "ours": _ROOT, "limits": limits}
        settings |= {"packages": packages, "warm": self._config.warm}
        # PATH alone of our environment, and no user site; the hash seed is fixed so that sets have one order.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-s", "-P", "-B", "-m", "sq.sandbox.inside.start", json.dumps(settings)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env={"PATH": os.defpath, "PYTHONPATH": _ROOT, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", **_ONE_THREAD},
            start_new_session=True,
        )
        theirs.close()

    def _send(self, kind: str, code: Any, tests: Any) -> None:
        files = [_file_of(code), _file_of(tests)]
        try:
            socket.send_fds(self._line, [kind.encode()], files)
        except OSError as error:
            raise messages.DisconnectedError("it is gone") from error
        finally:
            for fd in files:
                os.close(fd)

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message; meanwhile what long programs use is watched."""
        assert self._process.stdout is not None
        replies = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(replies, select.POLLIN | select.POLLHUP)
        exceeded = None
        while not poll.poll(_WATCH_SECONDS * 1000):
            if time.monotonic() > deadline:
                raise messages.DisconnectedError("it does not answer")
            exceeded = self._end_what_exceeds_limits() or exceeded
        report = messages.receive(replies)
        if exceeded and report.get("status") != "passed":
            report["status"], report["reason"] = exceeded
        return report

    def _end_what_exceeds_limits(self) -> tuple[str, str] | None:
        """End the running programs if together they use more than is allowed: the status that is, and why."""
        if sys.platform != "linux" or not self._ready:
            return None
        parents = resource_usage.parent_pids()
        templates = resource_usage.descendants(self._process.pid, parents, 2 if self._tier == FULL else 0)
        exceeded = resource_usage.memory_or_threads_exceeded(templates, parents, self._config)
        if exceeded is None and self._tier != FULL:
            exceeded = resource_usage.files_exceeded(self._tmp, self._config)
        if exceeded is not None:
            resource_usage.kill([pid for pid, parent in parents.items() if parent in templates])
        return exceeded

    def _replace(self) -> None:
        with self._lock:
            if self._closed:
                raise EngineError("the sandbox is closed")
            self._kill()
            self._start()

    def _kill(self) -> None:
        """The first process's death takes the template with it, and that of the template every program."""
        self._process.kill()
        self._process.wait()
        self._line.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._tier != FULL:
            shutil.rmtree(self._tmp, ignore_errors=True)


def _job_of(program: Program) -> tuple[str, Any, Any]:
    """The kind of a job, what the program's process reads and what that of the tests; what is expected stays here."""
    source, tests = program.source, program.tests
    if isinstance(tests, Unittests):
        return "unittests", source, {"tests": tests.tests, "count": count_unittests(tests.tests)}
    if isinstance(tests, Script):
        return "script", {"source": source, "prelude": tests.prelude}, tests.input.encode("utf-8", "replace")
    if isinstance(tests, Calls):
        arguments = [[encode(a, _refuse) for a in given] for given in tests.arguments]
        return "calls", source, {"function": tests.function, "arguments": arguments, "prelude": tests.prelude}
    assert isinstance(tests, Asserts)
    return "asserts", source, {**asdict(tests), "tests": list(tests.tests), "entry": list(tests.entry)}


def _tests_problem(tests: Asserts | Calls | Cases | Script | Unittests) -> str:
    """Why the tests would be passed by whatever there is; empty where they can tell."""
    if isinstance(tests, Script):
        return ""
    if isinstance(tests, Cases):
        return "" if len(tests.inputs) == len(tests.outputs) > 0 else "there are no tests, or some without an output"
    if isinstance(tests, Unittests):
        count = count_unittests(tests.tests)
        return "" if count > 0 else "the tests do not parse" if count < 0 else "there is no test in a class of unittest"
    listed = tests.tests if isinstance(tests, Asserts) else tests.expected
    return "" if listed is None or len(listed) else "there are no tests"


def _file_of(value: Any) -> int:
    """A file without a name that holds bytes as they are, any other value as JSON."""
    if sys.platform == "linux":
        fd = os.memfd_create("sandbox")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    messages.write_all(fd, value if isinstance(value, bytes) else json.dumps(value).encode("ascii"))
    return fd


def _result_of(program: Program, report: dict[str, Any]) -> ProgramResult:
    """The result, from a worker's report; what was expected of calls is compared here."""
    status, reason, tests = ProgramStatus(report["status"]), str(report.get("reason", "")), program.tests
    if isinstance(tests, Script):
        return ProgramResult(status=status, reason=reason, values=(report.get("output", Raised(error=reason)),))
    if not isinstance(tests, Calls):
        return ProgramResult(status=status, reason=reason, passed=tuple(report.get("passed", ())))
    number, answers = len(tests.arguments), _answers(report.get("answers", ""))
    if answers and "failed" in answers[0]:
        status, reason, answers = ProgramStatus.ERROR, str(answers[0]["failed"]), []
    values = [_value(answer) for answer in answers[:number]]
    if status is ProgramStatus.CALLED:
        raised = next((value for value in values if isinstance(value, Raised)), None)
        if raised is not None:
            status, reason = ProgramStatus.FAILED, raised.error
        elif len(values) < number:
            status, reason = ProgramStatus.ERROR, "it ended before it was done"
    if status in (ProgramStatus.ERROR, ProgramStatus.FAILED) and "MemoryError" in reason:
        status = ProgramStatus.MEMORY
    values += [Raised(error=reason)] * (number - len(values))
    if tests.expected is None:
        return ProgramResult(status=status, reason=reason, values=tuple(values))
    passed = tuple(equal_values(v, e) for v, e in zip(values, tests.expected, strict=True))  # Raised equals nothing
    if status is ProgramStatus.CALLED:
        status = ProgramStatus.PASSED if all(passed) else ProgramStatus.FAILED
        reason = "" if all(passed) else f"case {passed.index(False) + 1} is wrong"
    return ProgramResult(status=status, reason=reason, passed=passed, values=tuple(values))


def _answers(text: str) -> list[dict[str, Any]]:
    """The answers in what a program sent; from the first message on that is none, nothing."""
    sent = messages.split_messages(text.encode("latin-1"))
    return list(takewhile(lambda message: message.keys() & {"value", "error", "failed"}, sent))


def _value(answer: dict[str, Any]) -> Any:
    if "error" in answer or "value" not in answer:
        return Raised(error=str(answer.get("error", answer.get("failed"))))
    try:
        return decode_plain(answer["value"])
    except (ValueError, RecursionError) as error:
        return Raised(error=str(error))


def _refuse(value: Any) -> Any:
    raise TypeError(f"{value!r} is a {type(value).__name__}; arguments of calls are plain values")
