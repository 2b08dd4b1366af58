"""The kinds of job, each from its processes to its result: calls, scripts, asserts in another process, `unittest`.

The template has the program and its tests as open files that it does not read: whatever it once held, every later
program would inherit, and could search its memory for what other programs were expected to give.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from sq.sandbox.inside import run_asserts, run_program, run_unittests
from sq.sandbox.inside.confine import MB, Limits
from sq.sandbox.inside.processes import FIRST, Processes, ProcessExit
from sq.sandbox.messages import read_json, send, split_messages

_MOST_OF_TESTS = 64 * MB
"""Bytes that the tests' process may report; what a program may answer is a setting."""
_LONGEST_REASON = 1 << 16
_NEARLY = 0.85
"""Share of the processor time allowed from which a process that was killed is taken to have used it up: the kernel
counts by samples for the limit, and more finely for us."""
Report = dict[str, Any]
Files = tuple[int, int]  # descriptors of the program's file and of the tests'
_PARTS: dict[str, tuple[Callable[[int, int, int, int], None], Callable[[Any, int, int, int], Report]]] = {
    "asserts": (run_program.serve, run_asserts.run_tests),
    "unittests": (run_unittests.run, run_unittests.check),
}
"""What the program's process does with the program, and the tests' with the tests; both with the ends of their line and
the longest message."""


def run_job(kind: str, files: Files, processes: Processes, limits: Limits) -> Report:
    """Do a job within its time: `status`, `reason`, and its kind's `passed`, `answers` or `output`."""
    deadline = time.monotonic() + limits.wall_seconds
    if kind == "script":
        return _run_script(files, processes, limits, deadline)
    if kind == "calls":
        return _run_calls(files, processes, limits, deadline)
    return _run_tests(kind, files, processes, limits, deadline)


def _run_tests(kind: str, files: Files, processes: Processes, limits: Limits, deadline: float) -> Report:
    """The program's process, the tests', a line between them, and the tests' report to us."""
    requests, replies, reports = os.pipe(), os.pipe(), os.pipe()
    run, check = _PARTS[kind]
    longest = limits.output_mb * MB

    def check_main() -> None:
        os.chdir("/")
        send(FIRST + 3, check(read_json(FIRST), FIRST + 1, FIRST + 2, longest))

    program = processes.fork(lambda: run(FIRST, FIRST + 1, FIRST + 2, longest), [files[0], requests[0], replies[1]])
    tests = processes.fork(check_main, [files[1], replies[0], requests[1], reports[1]])
    for fd in (*requests, *replies, reports[1]):
        os.close(fd)
    data, late = processes.drain(reports[0], deadline, _MOST_OF_TESTS)
    os.close(reports[0])
    ended = [processes.end(program), processes.end(tests)]
    sent = split_messages(data)
    report: Report = sent[0] if len(sent) == 1 and not late else {}
    if report.get("status", "error") == "error":
        report |= _explain(limits, ended, late, report)
    elif report["status"] == "failed" and "MemoryError" in report["reason"]:
        report |= {"status": "memory", "reason": f"{report['reason']}, with {limits.memory_mb} MB"}
    return report


def _run_calls(files: Files, processes: Processes, limits: Limits, deadline: float) -> Report:
    """The program's process alone: it calls its function, and what it sends is handed on unread."""
    answers = os.pipe()
    program = processes.fork(lambda: run_program.call(FIRST, FIRST + 1, FIRST + 2), [*files, answers[1]])
    os.close(answers[1])
    data, late = processes.drain(answers[0], deadline, limits.output_mb * MB)
    os.close(answers[0])
    ended = processes.end(program)  # what has closed its answers is leaving, and its exit code stands
    report = {"status": "called", "reason": "", "answers": data.decode("latin-1")}
    if len(data) > limits.output_mb * MB:
        return {**report, "status": "output", "reason": f"answered more than {limits.output_mb} MB"}
    return {**report, **_explain(limits, [ended], late, {})} if late or ended.status else report


def _run_script(files: Files, processes: Processes, limits: Limits, deadline: float) -> Report:
    """The program's process alone, with a file to read and a line to print on."""
    output, reports = os.pipe(), os.pipe()
    fds = [*files, output[1], reports[1]]
    program = processes.fork(lambda: run_program.script(FIRST, FIRST + 1, FIRST + 2, FIRST + 3), fds)
    os.close(output[1])
    os.close(reports[1])
    most = limits.output_mb * MB
    data, late = processes.drain(output[0], deadline, most)
    sent, too_late = (b"", late) if late or len(data) > most else processes.drain(reports[0], deadline, _LONGEST_REASON)
    os.close(output[0])
    os.close(reports[0])
    ended = processes.end(program)
    if len(data) > most:
        return {"status": "output", "reason": f"printed more than {limits.output_mb} MB"}
    failed = next((str(m["failed"]) for m in split_messages(sent) if "failed" in m), "")
    report = {"status": "error", "reason": failed} if failed else {}
    if late or too_late or ended.status or failed:
        return report | _explain(limits, [ended], late or too_late, report)
    return {"status": "called", "reason": "", "output": data.decode("utf-8", "replace")}


def _explain(limits: Limits, ended: list[ProcessExit], late: bool, report: Report) -> Report:
    """Status and reason that the end of the processes tells, where it tells more than the report does."""
    if late:
        return {"status": "timeout", "reason": f"not done within {limits.wall_seconds:g} s"}
    if any(one.signal == signal.SIGXCPU or one.cpu >= _NEARLY * limits.cpu_seconds for one in ended):
        return {"status": "timeout", "reason": f"used up {limits.cpu_seconds:g} s of processor time"}
    if "MemoryError" in str(report.get("reason")):
        return {"status": "memory", "reason": f"needs more than {limits.memory_mb} MB"}
    number = ended[0].signal
    if number and number != signal.SIGKILL:
        return {"status": "crashed", "reason": f"ended by {signal.Signals(number).name}"}
    return {} if report else {"status": "error", "reason": "it ended before it was done"}
