"""Processes of programs: forked into a process namespace of their own, read from with a deadline, ended for certain."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sq.sandbox.inside import syscalls
from sq.sandbox.inside.confine import FULL, WEAK, Confinement, Limits, confine
from sq.sandbox.messages import DisconnectedError

FIRST = 3
"""The first descriptor that a forked process is given; 0, 1 and 2 are the null device."""


class ProcessExit(NamedTuple):
    """How a process ended."""

    status: int
    cpu: float

    @property
    def signal(self) -> int:
        """The signal that ended it, or 0."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0


class NamespaceFiles(NamedTuple):
    """Descriptors that the template needs in namespaces: its own pids, and those by which it is given a fresh /tmp."""

    own_pids: int = -1
    ask_fresh_tmp: int = -1
    fresh_tmp_ready: int = -1


class Processes:
    """Starts and ends the processes of one job at a time; `parent` hangs up when the sandbox's owner is gone."""

    def __init__(self, confinement: Confinement, limits: Limits, parent: int, namespace: NamespaceFiles) -> None:
        self._confinement, self._limits, self._parent, self._namespace = confinement, limits, parent, namespace
        self._null = os.open(os.devnull, os.O_RDWR)

    def fork(self, run: Callable[[], None], fds: Sequence[int]) -> int:
        """Start a confined process, which finds `fds` as the descriptors `FIRST`, `FIRST` + 1, ..., and no others."""
        if self._confinement.tier == FULL:
            syscalls.unshare(syscalls.NEWPID)
        pid = os.fork()
        if pid == 0:
            self._become(run, [self._null] * FIRST + list(fds))
        if self._confinement.tier == FULL:
            # Back to our own, or the next process could have no namespace of its own.
            syscalls.setns(self._namespace.own_pids, syscalls.NEWPID)
        return pid

    def _become(self, run: Callable[[], None], fds: Sequence[int]) -> None:
        code = 70
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            confine(self._confinement, self._limits)
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in fds]  # so that no copy overwrites another
            for target, fd in enumerate(high):
                os.dup2(fd, target)
            os.closerange(len(high), 1024)
            run()
            code = 0
        finally:
            os._exit(code)

    def end(self, pid: int) -> ProcessExit:
        """Kill a process and all it started, and wait until they are gone."""
        if self._confinement.tier == WEAK:  # else it has no children, or a namespace that ends with it
            _kill(os.killpg, pid)
        _kill(os.kill, pid)
        _, status, usage = os.wait4(pid, 0)
        return ProcessExit(status=status, cpu=usage.ru_utime + usage.ru_stime)

    def drain(self, fd: int, deadline: float, most: int) -> tuple[bytes, bool]:
        """Read until the end, until there is more than `most`, or until the deadline; True says that it is too late."""
        data, poll = bytearray(), select.poll()
        poll.register(self._parent, 0)
        poll.register(fd, select.POLLIN)
        while len(data) <= most:
            ready = [one for one, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000)]
            if self._parent in ready:
                raise DisconnectedError("the owner is gone")
            if not ready:
                return bytes(data), True
            part = os.read(fd, 1 << 16)
            if not part:
                break
            data += part
        return bytes(data), False

    def clean(self) -> None:
        """Empty the temporary directory."""
        tmp = self._confinement.tmp
        with os.scandir(tmp) as entries:
            if next(entries, None) is None:
                return
        if self._confinement.tier == FULL:
            os.chdir("/")
            os.write(self._namespace.ask_fresh_tmp, b"?")
            if not os.read(self._namespace.fresh_tmp_ready, 1):
                raise DisconnectedError("nobody gives a fresh directory")
            os.chdir(tmp)
        else:
            _empty(tmp)


def _kill(by: Callable[[int, int], None], pid: int) -> None:
    try:
        by(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


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
