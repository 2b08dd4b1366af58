"""One stage as a process of its own: started in a group that can be stopped as a whole, watched through its log.

The process writes its log itself, so nothing of it is lost if we are killed; and it is set to die with us, so that the
same command does not meet what an earlier one has left behind.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sq.core.errors import SqError
from sq.core.provenance import process_is_gone, process_name
from sq.core.quoting import python_command
from sq.core.secrets import redact, redact_command
from sq.recipe.record import now
from sq.recipe.stages import Stage

PATIENCE = 20.0
"""Seconds that a stage has to end by itself after it was asked to."""
_TAIL = 1 << 14
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class StageProcess:
    """A running stage."""

    def __init__(self, stage: Stage, extra: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.stage, self.log = stage, log
        self.started = time.monotonic()
        self.cpu_seconds = 0.0
        self.code: int | None = None
        words = [*shlex.split(stage.launch), *_program(stage.script), *stage.overrides, *extra]
        with open(log, "ab") as file:
            file.write(f"$ {format_command(words)}   # {now()}\n".encode())
            self.offset = file.tell()
            try:
                self._process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, **environment},
                    process_group=0, preexec_fn=_die_with(os.getpid()),
                )  # fmt: skip
            except OSError as error:
                raise SqError(f"stage {stage.name} cannot be started: {words[0]}: {error.strerror}") from error
        self.name = process_name(self._process.pid)

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; none while it runs."""
        if self.code is None:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self.code = self._process.returncode = os.waitstatus_to_exitcode(status)
                self.cpu_seconds = usage.ru_utime + usage.ru_stime
                _kill(self.pid, signal.SIGKILL)  # what it may have left in its group
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal to the stage and all it has started."""
        if self.code is None:
            _kill(self.pid, number)

    def tail(self, lines: int) -> list[str]:
        """The last lines of what this process has written, each as it was last seen on its line."""
        return tail(self.log, lines, start=self.offset)


def stop(processes: Sequence[StageProcess], patience: float = PATIENCE) -> None:
    """Ask them to end as on Ctrl-C, wait, and kill what does not."""
    for process in processes:
        process.signal(signal.SIGINT)
    deadline = time.monotonic() + patience
    try:
        while time.monotonic() < deadline and any(p.poll() is None for p in processes):
            time.sleep(0.02)
    finally:  # a second Ctrl-C ends the patience
        for process in processes:
            process.signal(signal.SIGKILL)
        while any(p.poll() is None for p in processes):
            time.sleep(0.01)


def end_left_behind(name: str) -> None:
    """Kill the group of a stage's process that outlived the run which had started it, and wait until it is gone."""
    pid = name.split(":")[1] if name.count(":") >= 2 else ""
    if not pid.isdigit() or process_is_gone(name) or process_name(int(pid)) != name:
        return
    _kill(int(pid), signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while not process_is_gone(name) and time.monotonic() < deadline:
        time.sleep(0.02)


def tail(log: Path, lines: int, *, start: int = 0) -> list[str]:
    """The last lines of a log; of a line that was written over again and again, the last version."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - _TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    plain = (_ESCAPES.sub("", line).rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return [redact(line) for line in plain if line.strip()][-lines:]


def format_command(words: Sequence[str]) -> str:
    """A command as one would type it, without secrets."""
    python = python_command()
    return shlex.join(redact_command([python if word == sys.executable else word for word in words]))


def command(stage: Stage, extra: Sequence[str] = ()) -> str:
    """The command of a stage, to be copied."""
    return format_command([*shlex.split(stage.launch), *_program(stage.script), *stage.overrides, *extra])


def _program(script: str) -> list[str]:
    """The entry script of the checkout this package is in, else the package's own."""
    file = Path(__file__).resolve().parents[2] / f"{script}.py"
    if not file.is_file():
        return [sys.executable, "-m", "sq.cli", script]
    return [sys.executable, file.name if file.parent == Path.cwd() else str(file)]


def _kill(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _die_with(parent: int) -> Callable[[], None] | None:
    """What a child does before it becomes the stage: ask to be killed when its parent is (Linux only)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: the child must not look up anything

    def ask() -> None:
        prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask
