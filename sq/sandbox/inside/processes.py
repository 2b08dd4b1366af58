"""Processes of programs: forked into a process namespace of their own, read from with a deadline, ended for certain."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sq.sandbox.inside import linux
from sq.sandbox.inside.confine import FULL, Confinement, Limits, confine
from sq.sandbox.wire import GoneError

FIRST = 3
"""The first descriptor that a forked process is given; 0, 1 and 2 are as usual."""
_PAUSE = 0.002


class ProcessExit(NamedTuple):
    """How a process ended."""

    status: int
    cpu: float

    @property
    def signal(self) -> int:
        """The signal that ended it, or 0."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0


class TemplateProcess(NamedTuple):
    """What the template has of the process that made its namespaces.

    Attributes:
        own_pids: the template's own process namespace, to come back to.
        ask_fresh: where a fresh temporary directory is asked for, as the template may not mount any more.
        is_fresh: where it is told that it is there.
    """

    own_pids: int = -1
    ask_fresh: int = -1
    is_fresh: int = -1


class Processes:
    """Starts and ends the processes of one job at a time.

    Args:
        confinement: the isolation of every program.
        limits: what each may use.
        parent: a descriptor that hangs up when the sandbox's owner is gone.
        template: what namespaces need.
    """

    def __init__(self, confinement: Confinement, limits: Limits, parent: int, template: TemplateProcess) -> None:
        self._confinement, self._limits, self._parent, self._template = confinement, limits, parent, template
        self._null = os.open(os.devnull, os.O_RDWR)
        self._early: dict[int, ProcessExit] = {}

    def fork(
        self, run: Callable[[], int | None], fds: Sequence[int], *, stdin: int = -1, stdout: int = -1, stderr: int = -1
    ) -> int:
        """Start a confined process that runs `run` and exits with what it gives; its id.

        Args:
            run: finds `fds` as the descriptors `FIRST`, `FIRST` + 1, ...
            fds: the only descriptors it keeps, besides the usual three.
            stdin: what is its input; none: the null device. The other two likewise.
        """
        if self._confinement.tier == FULL:
            linux.unshare(linux.NEWPID)
        pid = os.fork()
        if pid == 0:
            self._become(run, fds, [fd if fd >= 0 else self._null for fd in (stdin, stdout, stderr)])
        if self._confinement.tier == FULL:
            linux.setns(self._template.own_pids, linux.NEWPID)  # or the next one could have no namespace of its own
        return pid

    def _become(self, run: Callable[[], int | None], fds: Sequence[int], usual: Sequence[int]) -> None:
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            confine(self._confinement, self._limits)
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in (*usual, *fds)]  # so that no copy overwrites another
            for target, fd in enumerate(high):
                os.dup2(fd, target)
            os.closerange(len(high), 1024)
            code = run() or 0
        except BaseException:
            code = 70
        finally:
            os._exit(code)

    def end(self, pid: int) -> ProcessExit:
        """Kill a process and all it started, and wait until they are gone."""
        found = self._early.pop(pid, None)
        if self._confinement.tier != FULL:
            _kill_group(pid)
        if found is None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            found = self._wait(pid, 0)
            assert found is not None
        return found

    def await_exit(self, pid: int, deadline: float) -> bool:
        """Whether a process ends by itself before the deadline."""
        pause = _PAUSE / 4
        while True:
            found = self._wait(pid, os.WNOHANG)
            if found is not None:
                self._early[pid] = found
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 10 * _PAUSE)

    def drain(self, fds: Sequence[int], deadline: float, most: int) -> tuple[list[bytes], bool]:
        """Read until every descriptor is at its end, the first has given more than `most`, or the deadline has come.

        Of all but the first, which is the one that counts, only the end is kept. True says that it is too late.
        """
        held = {fd: bytearray() for fd in fds}
        waiting, late = set(fds), False
        while waiting and len(held[fds[0]]) <= most and not late:
            ready = self._ready(waiting, deadline)
            late = not ready
            for fd in ready:
                data = os.read(fd, 1 << 16)
                held[fd] += data
                if not data:
                    waiting.remove(fd)
                if fd != fds[0]:
                    del held[fd][:-8192]
        return [bytes(held[fd]) for fd in fds], late

    def some(self, fd: int, deadline: float) -> bytes:
        """What can be read now or before the deadline; nothing at the end, or when it is too late."""
        return os.read(fd, 1 << 16) if self._ready({fd}, deadline) else b""

    def clean(self) -> None:
        """End what outlived its program (where no namespace has done so), and empty the temporary directory."""
        tmp = self._confinement.tmp
        while self._confinement.tier != FULL and self._orphan():
            pass
        with os.scandir(tmp) as entries:
            if next(entries, None) is None:
                return
        if self._confinement.tier == FULL:
            os.chdir("/")
            os.write(self._template.ask_fresh, b"?")
            if not os.read(self._template.is_fresh, 1):
                raise GoneError("nobody gives a fresh directory")
            os.chdir(tmp)
        else:
            _empty(tmp)

    def _ready(self, fds: set[int], deadline: float) -> list[int]:
        poll = select.poll()
        poll.register(self._parent, 0)
        for fd in fds:
            poll.register(fd, select.POLLIN)
        left = deadline - time.monotonic()
        found = [fd for fd, _ in poll.poll(max(0.0, left) * 1000)]
        if self._parent in found:
            raise GoneError("the owner is gone")
        return found

    def _wait(self, pid: int, options: int) -> ProcessExit | None:
        done, status, usage = os.wait4(pid, options)
        return ProcessExit(status=status, cpu=usage.ru_utime + usage.ru_stime) if done else None

    def _orphan(self) -> bool:
        """End a process that came to us when its parent died; whether there was any."""
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                return True
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            return os.waitpid(-1, 0)[0] != 0
        except ChildProcessError:  # as nearly always
            return False


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _children() -> list[int]:
    """This process's children, where the system tells them (Linux)."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _empty(top: str) -> None:
    """Remove what is in a directory, however deep: what a directory holds is moved up before it is removed."""
    moved = 0
    while names := os.listdir(top):
        for name in names:
            path = os.path.join(top, name)
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
                continue
            os.chmod(path, 0o700)
            for inner in os.listdir(path):
                moved += 1
                os.rename(os.path.join(path, inner), os.path.join(top, f".moved-{moved}"))
            os.rmdir(path)
