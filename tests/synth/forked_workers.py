"""Workers as forks of the test's own process, so that hundreds of real processes can be started and killed."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path

from tqdm import tqdm

import sq.synth.run
from sq.engine.ray import WorkerEnd
from sq.synth.worker import work


class ForkedLauncher:
    """In place of `LocalLauncher`: the same worker in a fork."""

    patience = float("inf")

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="sq-")
        self.address = str(Path(self._directory.name) / "coordinator")

    def start(self, number, address, key):
        child = os.fork()
        if child == 0:
            os.closerange(3, 1024)  # as in a process started afresh: no other worker's end is held open here
            tqdm.set_lock(threading.RLock())  # its own is shared with forks, and a killed one may die holding it
            os.environ["WORKER"] = str(number)
            try:
                work(address, key, number)
                os._exit(0)
            finally:
                os._exit(1)
        return Forked(child)

    def close(self):
        self._directory.cleanup()


class Forked:
    def __init__(self, pid):
        self.pid, self._status = pid, None

    def ended(self):
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        if self._status is None:
            return None
        return WorkerEnd(f"its process ended with {self._status}", from_outside=self._status == signal.SIGTERM)

    def kill(self):
        if self.ended() is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._status = signal.SIGKILL


def fork_workers(monkeypatch):
    monkeypatch.setattr("sq.synth.pool.CHECK_SECONDS", 0.05)
    monkeypatch.setattr("sq.synth.pool.PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(sq.synth.run, "launcher_of", lambda job: ForkedLauncher())


def children_of(pid):
    """The processes that one has started."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            children.append(int(stat.parent.name))
    return children
