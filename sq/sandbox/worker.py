"""One sandbox worker seen from outside: its process, the jobs it is given, and what came of them."""

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
from pathlib import Path
from typing import Any

from sq.core.errors import EngineError
from sq.sandbox import resource_usage, wire
from sq.sandbox.config import SandboxConfig
from sq.sandbox.inside import root
from sq.sandbox.inside.confine import FULL
from sq.sandbox.plain import decode_plain, encode
from sq.sandbox.programs import (
    Asserts,
    Calls,
    Program,
    ProgramResult,
    ProgramStatus,
    Raised,
    Script,
    Unittests,
    same,
    same_text,
    unittests_in,
)

_START_SECONDS = 60
_GRACE_SECONDS = 30
"""Seconds beyond the deadline after which a worker that ought to have ended a program is itself ended."""
_LOOK_SECONDS = 0.25
_ROOT = str(Path(__file__).resolve().parents[2])


class RefusedError(Exception):
    """The system does not allow an isolation; the text says what was refused."""


class SandboxWorker:
    """A process that programs are forked from; started again if it dies. Not for several threads at once."""

    def __init__(self, config: SandboxConfig, tier: str) -> None:
        self._config, self._tier = config, tier
        self._lock = threading.Lock()
        self._closed = False
        self._said: dict[str, Any] | None = None
        self._start()

    def ready(self) -> bool:
        """Wait until it is ready; whether its programs' system calls are filtered.

        Raises:
            RefusedError: if the system does not allow its isolation.
        """
        if self._said is None:
            said = self._receive(time.monotonic() + _START_SECONDS)
            if "refused" in said:
                raise RefusedError(said["refused"])
            self._said = said
        return bool(self._said["filtered"])

    def run(self, program: Program) -> ProgramResult:
        """The outcome of a program."""
        nothing = _nothing_to_pass(program.tests)
        if nothing:
            return ProgramResult(status=ProgramStatus.INVALID, reason=nothing)
        header, code, tests = parts_of(program)
        for _attempt in (1, 2):
            try:
                self.ready()
                self._send(header, code, tests)
                told = self._receive(time.monotonic() + self._config.wall_seconds + _GRACE_SECONDS)
                return outcome_of(program, told)
            except wire.GoneError as gone:
                self._replace()
                problem = gone
        reason = f"the sandbox's own process ended twice on it ({problem})"
        return outcome_of(program, {"status": ProgramStatus.CRASHED, "reason": reason})

    def _send(self, header: dict[str, Any], code: Any, tests: Any) -> None:
        files = [_file_of(code), _file_of(tests)]
        try:
            socket.send_fds(self._line, [json.dumps(header).encode()], files)
        except OSError as error:
            raise wire.GoneError("it is gone") from error
        finally:
            for fd in files:
                os.close(fd)

    def stop(self) -> None:
        """End the process, and with it all that it started."""
        with self._lock:
            self._closed = True
            self._kill()

    def _start(self) -> None:
        self._tmp = tempfile.mkdtemp(prefix="sq-sandbox-") if self._tier != FULL else root.TMP
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        given = {
            "socket": theirs.fileno(),
            "tier": self._tier,
            "tmp": self._tmp,
            "ours": _ROOT,
            "packages": _packages() if self._config.packages else [],
            "warm": self._config.warm,
            "limits": {name: getattr(self._config, name) for name in _LIMITS},
        }
        # PATH alone of our environment, and no user site; the hash seed is fixed so that sets have one order.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-s", "-P", "-B", "-m", "sq.sandbox.inside.start", json.dumps(given)],
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
        assert self._process.stdout is not None
        self._replies = self._process.stdout.fileno()
        self._said = None

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message; meanwhile what long programs hold is looked at."""
        poll = select.poll()
        poll.register(self._replies, select.POLLIN | select.POLLHUP)
        over = None
        while not poll.poll(_LOOK_SECONDS * 1000):
            if time.monotonic() > deadline:
                raise wire.GoneError("it does not answer")
            over = self._ended_for_more() or over
        told = wire.receive(self._replies)
        if over and told.get("status") != "passed":
            told |= dict(zip(("status", "reason"), over, strict=True))
        return dict(told)

    def _ended_for_more(self) -> tuple[str, str] | None:
        """End the running programs if together they hold more than is allowed: the status that is, and why."""
        if sys.platform != "linux" or self._said is None:
            return None
        parents = resource_usage.parents()
        template = resource_usage.below(self._process.pid, parents, 2 if self._tier == FULL else 0)
        found = resource_usage.too_much(template, parents, self._config)
        if found is None and self._tier != FULL:
            found = resource_usage.too_many_files(self._tmp, self._config)
        if found is not None:
            resource_usage.end([pid for pid, parent in parents.items() if parent in template])
        return found

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


_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
_LIMITS = (
    "cpu_seconds", "wall_seconds", "memory_mb", "processes", "file_mb", "tmp_mb", "tmp_files", "output_mb",
)  # fmt: skip


def parts_of(program: Program) -> tuple[dict[str, Any], Any, Any]:
    """A program as a worker is given it: what the template reads, what the program's process does, what the judge's.

    Of `Calls` and `Script` the expected values stay here.
    """
    tests, code = program.tests, [program.source, program.name]
    header: dict[str, Any] = {"wall": program.wall_seconds}
    if isinstance(tests, Script):
        return {**header, "kind": "script"}, code, {"inputs": list(tests.inputs)}
    if isinstance(tests, Unittests):
        given = {"tests": tests.tests, "count": unittests_in(tests.tests)}
        return {**header, "kind": "beside"}, code, given
    if isinstance(tests, Calls):
        arguments = [[encode(a, _no_object) for a in given] for given in tests.arguments]
        return {**header, "kind": "calls"}, code, {"function": tests.function, "arguments": arguments}
    given = {
        "tests": list(tests.tests),
        "entry": list(tests.entry),
        "context": tests.context,
        "setup": tests.setup,
        "all": tests.every,
    }
    return {**header, "kind": "asserts"}, code, given


def _file_of(value: Any) -> int:
    """A file without a name that holds a value as JSON."""
    if sys.platform == "linux":
        fd = os.memfd_create("sandbox")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    data = memoryview(json.dumps(value).encode("ascii"))
    while data:
        data = data[os.write(fd, data) :]
    return fd


def outcome_of(program: Program, told: dict[str, Any]) -> ProgramResult:
    """The outcome, from what a worker told; what was expected of calls and inputs is compared here."""
    times: dict[str, Any] = {"cpu_seconds": told.get("cpu", 0.0), "wall_seconds": told.get("wall", 0.0)}
    status, reason, tests = ProgramStatus(told["status"]), str(told.get("reason", "")), program.tests
    if isinstance(tests, Calls):
        results = _results(told.get("said", ""))
        number, equal = len(tests.arguments), same
    elif isinstance(tests, Script):
        results = told.get("results", [])
        number, equal = len(tests.inputs), same_text
    else:
        return ProgramResult(status=status, reason=reason, passed=tuple(told.get("passed", ())), **times)
    if results and "failed" in results[0]:
        status, reason = ProgramStatus.ERROR, str(results[0]["failed"])
    values = [_value(result, text=isinstance(tests, Script)) for result in results[:number] if "failed" not in result]
    first = next(((r, v) for r, v in zip(results, values, strict=False) if isinstance(v, Raised)), None)
    if first is not None and status is ProgramStatus.CALLED:
        status, reason = ProgramStatus(first[0].get("status", "failed")), first[1].error
    if len(values) < number and status is ProgramStatus.CALLED:
        status, reason = ProgramStatus.ERROR, "it ended before it was done"
    if status in (ProgramStatus.ERROR, ProgramStatus.FAILED) and "MemoryError" in reason:
        status = ProgramStatus.MEMORY
    values += [Raised(error=reason)] * (number - len(values))
    if tests.expected is None:
        return ProgramResult(status=status, reason=reason, values=tuple(values), **times)
    passed = tuple(not isinstance(v, Raised) and equal(v, e) for v, e in zip(values, tests.expected, strict=True))
    if status is ProgramStatus.CALLED:
        status = ProgramStatus.PASSED if all(passed) else ProgramStatus.FAILED
        reason = "" if all(passed) else f"case {passed.index(False) + 1} is wrong"
    return ProgramResult(status=status, reason=reason, passed=passed, values=tuple(values), **times)


def _nothing_to_pass(tests: Asserts | Calls | Script | Unittests) -> str:
    """Why the tests would be passed by whatever there is; empty where they can tell."""
    if isinstance(tests, Unittests):
        count = unittests_in(tests.tests)
        return "" if count > 0 else "the tests do not parse" if count < 0 else "there is no test in a class of unittest"
    listed = tests.tests if isinstance(tests, Asserts) else tests.expected
    return "" if listed is None or len(listed) else "there are no tests"


def _results(said: str) -> list[dict[str, Any]]:
    """The messages in what a program said; from the first on that is none, nothing."""
    data, found = said.encode("latin-1"), []
    while len(data) >= 4:
        size = int.from_bytes(data[:4], sys.byteorder)
        try:
            message = json.loads(data[4 : 4 + size])
        except (ValueError, RecursionError):
            break
        if not isinstance(message, dict) or not message.keys() & {"value", "error", "failed"}:
            break
        # A status is not its to say: of what it sent, nothing else is kept.
        found.append({k: message[k] for k in ("failed", "error", "value") if k in message})
        data = data[4 + size :]
    return found


def _value(result: dict[str, Any], *, text: bool) -> Any:
    if "error" in result:
        return Raised(error=str(result["error"]))
    try:
        return result["value"] if text else decode_plain(result["value"])
    except (ValueError, RecursionError) as error:
        return Raised(error=str(error))


def _no_object(value: Any) -> Any:
    raise TypeError(f"{value!r} is a {type(value).__name__}; arguments of calls are plain values")


def _packages() -> list[str]:
    paths = sysconfig.get_paths()
    return sorted({paths["purelib"], paths["platlib"]})
