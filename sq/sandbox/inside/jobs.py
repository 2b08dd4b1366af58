"""The kinds of job, each from its processes to its outcome: tests beside a judge, tests within, inputs of a script.

The template has the program and its tests as open files that it does not read: whatever it once held, every later
program would inherit, and could search its memory for what other programs were expected to give.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import time
from collections.abc import Callable
from typing import Any

from sq.sandbox.inside import checker, in_process_tests, program
from sq.sandbox.inside.confine import MB, Limits
from sq.sandbox.inside.processes import FIRST, Processes, ProcessExit
from sq.sandbox.wire import load, send

_ENOUGH = 64 * MB
"""Bytes that a judge may say; what a program may say is a setting."""
_NEARLY = 0.85
"""Share of the processor time allowed from which a process that was killed is taken to have used it up: the kernel
counts by samples for the limit, and more finely for us."""
Outcome = dict[str, Any]
Files = tuple[int, int]
"""Descriptors of the program's file and of the tests'."""
Play = Callable[[int, int, int, int], None]
"""What the program's process does with its file, the two ends of its line, and the longest message."""
Judge = Callable[[Any, int, int, int], Outcome]
"""What the judge's process does with the tests, the two ends of its line, and the longest message."""
_PARTS: dict[str, tuple[Play, Judge]] = {
    "asserts": (program.serve, checker.check),
    "beside": (in_process_tests.run, in_process_tests.judge),
}


def perform(job: dict[str, Any], files: Files, processes: Processes, limits: Limits) -> Outcome:
    """Do a job (its kind and time) within its time: `status`, `reason`, and its kind's `passed` or `results`."""
    deadline = time.monotonic() + min(job["wall"] or limits.wall_seconds, limits.wall_seconds)
    if job["kind"] == "script":
        return _script(files, processes, limits, deadline)
    if job["kind"] == "calls":
        return _calls(files, processes, limits, deadline)
    return _judged(*_PARTS[job["kind"]], files, processes, limits, deadline)


def _judged(play: Play, judge: Judge, files: Files, processes: Processes, limits: Limits, deadline: float) -> Outcome:
    """The program's process, the judge's, a line between them, and the judge's word to us."""
    asks, answers, word = os.pipe(), os.pipe(), os.pipe()
    longest = limits.output_mb * MB

    def player_main() -> None:
        play(FIRST, FIRST + 1, FIRST + 2, longest)

    def judge_main() -> None:
        os.chdir("/")
        send(FIRST + 3, judge(load(FIRST), FIRST + 1, FIRST + 2, longest))

    player = processes.fork(player_main, [files[0], asks[0], answers[1]])
    referee = processes.fork(judge_main, [files[1], answers[0], asks[1], word[1]])
    for fd in (*asks, *answers, word[1]):
        os.close(fd)
    (said,), late = processes.drain([word[0]], deadline, _ENOUGH)
    os.close(word[0])
    ended, judged = processes.end(player), processes.end(referee)
    outcome = None if late else _message(said)
    if outcome is None or outcome["status"] == "error":
        outcome = (outcome or {}) | _why(limits, [ended, judged], late, outcome)
    elif outcome["status"] == "failed" and "MemoryError" in outcome["reason"]:
        outcome |= {"status": "memory", "reason": f"{outcome['reason']}, with {limits.memory_mb} MB"}
    return {**outcome, "cpu": ended.cpu + judged.cpu}


def _calls(files: Files, processes: Processes, limits: Limits, deadline: float) -> Outcome:
    """The program's process alone: it calls its function, and what it says is handed on unread."""
    results = os.pipe()
    player = processes.fork(lambda: program.call(FIRST, FIRST + 1, FIRST + 2), [*files, results[1]])
    os.close(results[1])
    (said,), late = processes.drain([results[0]], deadline, limits.output_mb * MB)
    os.close(results[0])
    flood = len(said) > limits.output_mb * MB
    late = late or not (flood or processes.await_exit(player, deadline))
    ended = processes.end(player)
    outcome = {"status": "called", "reason": "", "said": said.decode("latin-1"), "cpu": ended.cpu}
    if flood:
        return {**outcome, "status": "output", "reason": f"answered more than {limits.output_mb} MB"}
    if late or ended.status:
        return {**outcome, **_why(limits, [ended], late, None)}
    return outcome


def _script(files: Files, processes: Processes, limits: Limits, deadline: float) -> Outcome:
    """The program is run once for each input; what it writes is handed on."""
    results: list[Outcome] = []
    cpu = 0.0
    for text in load(files[1])["inputs"]:  # what is expected of them is not there
        processes.clean()
        given, out, errors = _input(text), os.pipe(), os.pipe()
        player = processes.fork(lambda: program.script(FIRST), [files[0]], stdin=given, stdout=out[1], stderr=errors[1])
        for fd in (given, out[1], errors[1]):
            os.close(fd)
        (written, complaint), late = processes.drain([out[0], errors[0]], deadline, limits.output_mb * MB)
        os.close(out[0])
        os.close(errors[0])
        flood = len(written) > limits.output_mb * MB
        late = late or not (flood or processes.await_exit(player, deadline))
        ended = processes.end(player)
        cpu += ended.cpu
        results.append(_script_result(written, complaint, ended, late, flood, limits))
        if late:
            break
    return {"status": "called", "reason": "", "results": results, "cpu": cpu}


def _script_result(
    written: bytes, complaint: bytes, ended: ProcessExit, late: bool, flood: bool, limits: Limits
) -> Outcome:
    if flood:
        return {"error": f"wrote more than {limits.output_mb} MB", "status": "output"}
    if ended.signal or late:
        why = _why(limits, [ended], late, None)
        return {"error": why["reason"], "status": why["status"]}
    code = os.waitstatus_to_exitcode(ended.status)
    if code:
        last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {code}"]
        return {"error": last[0][:300], "status": "memory" if last[0].startswith("MemoryError") else "error"}
    return {"value": written.decode("utf-8", "replace")}


def _input(text: str) -> int:
    """A file that nobody else has, which holds a program's input."""
    fd = os.open("input", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)  # in the temporary directory, which is empty
    os.unlink("input")
    data = memoryview(text.encode("utf-8", "surrogatepass"))
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _message(data: bytes) -> Outcome | None:
    """The message that these bytes are, if they are one."""
    if len(data) < 4 or len(data) - 4 != struct.unpack("=I", data[:4])[0]:
        return None
    try:
        found = json.loads(data[4:])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _why(limits: Limits, ended: list[ProcessExit], late: bool, outcome: Outcome | None) -> Outcome:
    """Status and reason that the end of the processes tells, where it tells more than the outcome does."""
    if late:
        return {"status": "timeout", "reason": f"not done within {limits.wall_seconds:g} s"}
    if any(one.signal == signal.SIGXCPU or one.cpu >= _NEARLY * limits.cpu_seconds for one in ended):
        return {"status": "timeout", "reason": f"used up {limits.cpu_seconds:g} s of processor time"}
    if outcome is not None and "MemoryError" in str(outcome.get("reason")):
        return {"status": "memory", "reason": f"needs more than {limits.memory_mb} MB"}
    number = ended[0].signal
    if number and number != signal.SIGKILL:
        return {"status": "crashed", "reason": f"ended by {signal.Signals(number).name}"}
    return {} if outcome is not None else {"status": "error", "reason": "it ended before it was done"}
