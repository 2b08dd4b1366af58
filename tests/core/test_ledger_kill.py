"""A ledger's work killed with SIGKILL: at every call that changes the disk, at random times, and its lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from sq.core.errors import LedgerError
from sq.core.ledger import Ledger, WorkItem, read_manifest

SCRIPT = Path(__file__).with_name("ledger_killed.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def run(*arguments: object) -> dict[str, int]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_killed_at_every_change_of_the_disk(tmp_path: Path) -> None:
    assert run("points", tmp_path, 5)["kills"] > 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "count", "least"),
    [("points", 9, 70), ("repair", 10, 30), ("rebuild", 10, 20), ("retry", 6, 40), ("retry-whole", 9, 60)]
    + [("retry-journals", 16, 60), ("retry-whole-journals", 16, 60)],
)
def test_killed_at_every_change_while_it_works_repairs_or_rebuilds(
    tmp_path: Path, mode: str, count: int, least: int
) -> None:
    assert run(mode, tmp_path, count)["kills"] > least


def test_killed_sixty_times_at_random(tmp_path: Path) -> None:
    answer = run("random", tmp_path, 60, 60, 2410)
    assert answer["kills"] >= 60 and answer["finished"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_many_more_times_at_random(tmp_path: Path, seed: int) -> None:
    assert run("random", tmp_path, 100, 150, seed)["kills"] >= 150


@pytest.fixture
def worker(tmp_path: Path):
    """A process that is at work on `tmp_path/out`, slowly."""
    command = [sys.executable, str(SCRIPT), "work", str(tmp_path / "out"), "1000", "0.05"]
    with subprocess.Popen(command, env=ENVIRONMENT) as process:
        log = tmp_path / "out.log"
        while not (log.exists() and "recorded" in log.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        yield process
        process.kill()


def open_it(directory: Path) -> Ledger:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from ledger_killed import SCHEMA
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return Ledger.open(directory, schema=SCHEMA, config={"count": 1000}, part_size=4)


def test_a_second_process_is_refused_and_the_lock_dies_with_its_holder(
    tmp_path: Path, worker: subprocess.Popen
) -> None:
    with pytest.raises(LedgerError, match=rf"out: (process {worker.pid} on this machine|another process) is writing"):
        open_it(tmp_path / "out")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    with open_it(tmp_path / "out"):
        pass
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name.endswith(("lock", "tmp", "pid"))) == []


def test_the_same_process_cannot_open_it_twice(tmp_path: Path) -> None:
    with open_it(tmp_path), pytest.raises(LedgerError, match="is writing to this directory"):
        open_it(tmp_path)
    open_it(tmp_path).close()


def test_a_forked_child_neither_keeps_the_lock_nor_writes(tmp_path: Path) -> None:
    ledger = open_it(tmp_path)
    next(todo := ledger.todo([WorkItem("item-0"), WorkItem("item-1")]))
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ledger.record("item-0")
            os.write(into, b"recorded")
        except LedgerError as error:
            os.write(into, str(error).encode())
        signal.pause()
    try:
        assert b"the process that forked this one" in os.read(out, 4000)
        ledger.record("item-0")
        next(todo)
        ledger.close()
        open_it(tmp_path).close()  # the child lives, and has a copy of every open file
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(out)
        os.close(into)


def test_where_a_directory_cannot_be_locked_a_hidden_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on network file systems."""
    import fcntl

    lock = fcntl.flock

    def refuse_directories(fd: int, operation: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(9, "Bad file descriptor")
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", refuse_directories)
    schema = pa.schema([("a", pa.int64())])
    with Ledger.open(tmp_path, schema=schema, config={}) as ledger:
        with pytest.raises(LedgerError, match=rf"process {os.getpid()} on .* is writing to this directory"):
            Ledger.open(tmp_path, schema=schema, config={})
        list(ledger.todo([]))
        ledger.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert read_manifest(tmp_path).finished
