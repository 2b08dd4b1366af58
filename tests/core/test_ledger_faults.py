"""Disks that fill up, calls that fail, directories that cannot be written, and power cuts."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sq.core.ledger
from sq.core.errors import LedgerError
from sq.core.ledger import Item, Ledger, Reject, read_manifest, read_rows

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("noise", pa.string())])


def opened(directory: Path) -> Ledger:
    return Ledger.open(directory, schema=SCHEMA, config={"seed": 1}, part_size=4)


def record(ledger: Ledger, item: Item, size: int = 40) -> None:
    noise = hashlib.shake_256(item.key.encode()).hexdigest(size // 2)
    rejects = [Reject({"id": item.key}, "third")] if item.payload % 3 == 0 else []
    ledger.record(item.key, [{"id": item.key, "noise": noise}], rejects)


def run(directory: Path, count: int = 10, size: int = 40) -> tuple[list[str], LedgerError | None]:
    """Work like a stage: (items whose outcome was recorded, the error that ended it)."""
    recorded: list[str] = []
    try:
        with opened(directory) as ledger:
            for item in ledger.todo(Item(f"k{i}", i) for i in range(count)):
                record(ledger, item, size)
                recorded.append(item.key)
            ledger.finish()
    except LedgerError as error:
        return recorded, error
    return recorded, None


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def reference(tmp_path: Path) -> dict[str, bytes]:
    assert run(tmp_path / "reference")[1] is None
    return contents(tmp_path / "reference")


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace", "ftruncate", "unlink"])
def test_every_call_that_fails_ends_in_one_line_with_nothing_lost(
    tmp_path: Path, reference: dict[str, bytes], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call fails once in turn, a write with half of its bytes written; then the disk is sound again."""
    real: Callable[..., Any] = getattr(os, name)
    calls = failed_at = 0
    if name != "fsync":
        monkeypatch.setattr(os, "fsync", lambda fd: None)

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == failed_at:
            if name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    for failed_at in itertools.count(1):  # noqa: B007 (read in `failing`)
        calls = 0
        directory = tmp_path / f"{failed_at}"
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            first, error = run(directory)
        if calls < failed_at:
            break
        if error is not None:
            assert "\n" not in str(error) and f"/{failed_at}" in str(error)
            assert "No space left on device. Free some space and run the same command again" in str(error)
        second, error = run(directory)
        assert error is None and not set(first) & set(second)
        assert contents(directory) == reference
        shutil.rmtree(directory)
    assert failed_at > 10 or name in ("ftruncate", "unlink")


def test_a_failed_write_can_be_tried_again_in_the_same_process(
    tmp_path: Path, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the half-written line cannot be cut off at once."""
    write, truncate = os.write, os.ftruncate
    fail = False

    def half(fd: int, data: bytes) -> int:
        if fail:
            write(fd, bytes(data)[:9])
            raise OSError(errno.ENOSPC, "full")
        return write(fd, data)

    def refused(fd: int, size: int) -> None:
        if fail:
            raise OSError(errno.EIO, "broken")
        truncate(fd, size)

    monkeypatch.setattr(os, "write", half)
    monkeypatch.setattr(os, "ftruncate", refused)
    with opened(tmp_path / "out") as ledger:
        for item in ledger.todo(Item(f"k{i}", i) for i in range(10)):
            fail = True
            with pytest.raises(LedgerError, match=r"journal-\d+.jsonl: cannot write the journal: No space left"):
                record(ledger, item)
            fail = False
            record(ledger, item)
        ledger.finish()
    assert contents(tmp_path / "out") == reference


def test_a_failed_commit_is_made_up_for_by_finish(
    tmp_path: Path, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "out") as ledger:
        for item in ledger.todo(Item(f"k{i}", i) for i in range(10)):
            if item.payload == 7:
                with (
                    monkeypatch.context() as patch,
                    pytest.raises(LedgerError, match="rejects-00001.parquet: cannot write it: No space left"),
                ):
                    patch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
                    record(ledger, item)
                assert not list(tmp_path.glob("out/*.tmp"))
            else:
                record(ledger, item)
        ledger.finish()
    assert contents(tmp_path / "out") == reference


def mount(where: Path, options: str) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "disk"
    where.mkdir()
    mount(where, "size=200k")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_disk_that_is_full_again_and_again_costs_nothing(small_disk: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "reference", count=60, size=12_000)[1] is None
    recorded: list[str] = []
    for size in range(200, 2400, 100):
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(small_disk)], check=True)
        some, error = run(small_disk / "out", count=60, size=12_000)
        recorded += some
        if error is None:
            break
        assert "No space left on device. Free some space and run the same command again" in str(error)
        if (small_disk / "out" / "manifest.json").exists():
            committed = list(read_rows(small_disk / "out", unfinished=True))
            assert len(committed) == read_manifest(small_disk / "out").rows
    assert size > 500 and len(recorded) == len(set(recorded))
    assert contents(small_disk / "out") == contents(tmp_path / "reference")


def test_a_read_only_file_system(small_disk: Path) -> None:
    assert run(small_disk / "done")[1] is None
    with opened(small_disk / "begun") as ledger:
        record(ledger, next(ledger.todo(Item(f"k{i}", i) for i in range(10))))
        ledger.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert run(small_disk / "done") == ([], None)  # nothing to do, nothing to write
    for name in ("begun", "new"):
        _, error = run(small_disk / name)
        assert "Read-only file system. Mount the file system writable, or choose another output_dir." in str(error)


def as_nobody(work: Callable[[], str]) -> str:
    """What `work` returns in a process without root's rights."""
    if os.geteuid() != 0:
        return work()
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(into, work().encode())
        except BaseException:
            os.write(into, traceback.format_exc().encode())
        os._exit(0)
    os.close(into)
    os.waitpid(child, 0)
    with os.fdopen(out) as file:
        return file.read()


def test_a_directory_without_the_right_to_write(tmp_path: Path) -> None:
    for path in (tmp_path, *itertools.islice(tmp_path.parents, 2)):
        path.chmod(0o755)
    with opened(tmp_path / "begun") as ledger:
        record(ledger, next(ledger.todo(Item(f"k{i}", i) for i in range(10))))
    (tmp_path / "empty").mkdir()
    for name, mode in (("begun", 0o555), ("empty", 0o555), ("new", 0o555), ("begun", 0o000)):
        tmp_path.chmod(0o555)
        if name != "new":
            (tmp_path / name).chmod(mode)
        said = as_nobody(lambda: str(run(tmp_path / name)[1]))  # noqa: B023 (called at once)
        tmp_path.chmod(0o755)
        assert said.startswith(str(tmp_path / name)), said
        assert "Permission denied. Give this user the right to read and write there, or choose another" in said
    (tmp_path / "begun").chmod(0o755)
    assert run(tmp_path / "begun")[1] is None


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(LedgerError, match="A file stands where a directory is needed: choose another output_dir"):
            opened(path)
    with pytest.raises(LedgerError, match="File name too long. Choose a shorter output_dir"):
        opened(tmp_path / ("x" * 300))
    with pytest.raises(LedgerError, match="part_size=0 must be at least 1"):
        Ledger.open(tmp_path / "new", schema=SCHEMA, config={}, part_size=0)


class Disk:
    """What a disk would hold after a power cut, from a record of the calls that changed it.

    Files keep what was synced and a piece of what was written after; names keep what was synced with the directory and
    any of the changes since, each or not.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.events: list[tuple[Any, ...]] = []
        self._files: dict[int, tuple[str, int]] = {}  # fd -> (what, inode)
        for name in ("open", "close", "write", "fsync", "replace", "unlink", "ftruncate"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "close":
                self._files.pop(args[0], None)
            elif name in ("replace", "unlink") and Path(args[0]).parent == self.directory:
                self.events.append((name, *(Path(arg).name for arg in args)))
            elif name == "fsync" and args[0] in self._files:
                self.events.append((name, *self._files[args[0]]))
            result = real(*args, **kwargs)
            if name == "open" and Path(args[0]) == self.directory:
                self._files[result] = ("names", 0)
            elif name == "open" and Path(args[0]).parent == self.directory and args[1] & os.O_CREAT:
                inode = len(self.events)  # in this run, every file is made anew
                self._files[result] = ("data", inode)
                self.events.append(("create", Path(args[0]).name, inode))
            elif name == "write" and args[0] in self._files:
                self.events.append((name, self._files[args[0]][1], bytes(args[1])[:result]))
            elif name == "ftruncate" and args[0] in self._files:
                self.events.append((name, self._files[args[0]][1], args[1]))
            return result

        return call

    def after_power_cut(self, count: int, choose: random.Random) -> dict[str, bytes]:
        """The files after the first `count` events and a power cut."""
        data: dict[int, bytes] = {}
        safe: dict[int, int] = {}
        names: dict[str, int] = {}
        durable: dict[str, int] = {}
        pending: list[tuple[Any, ...]] = []
        for event in self.events[:count]:
            match event:
                case ("create", name, inode):
                    data[inode] = b""
                    names[name] = inode
                    pending.append(("set", name, inode))
                case ("write", inode, piece):
                    data[inode] += piece
                case ("ftruncate", inode, size):
                    data[inode] = data[inode][:size]
                case ("fsync", "data", inode):
                    safe[inode] = len(data[inode])
                case ("replace", old, new):
                    names[new] = names.pop(old)
                    pending += [("set", new, names[new]), ("unset", old)]
                case ("unlink", name):
                    del names[name]
                    pending.append(("unset", name))
                case ("fsync", "names", _):
                    durable, pending = dict(names), []
        for _, name, *inode in pending:
            if choose.random() < 0.5:
                durable.pop(name, None)
                if inode:
                    durable[name] = inode[0]
        return self._contents(durable, data, safe, choose)

    @staticmethod
    def _contents(
        durable: dict[str, int], data: dict[int, bytes], safe: dict[int, int], choose: random.Random
    ) -> dict[str, bytes]:
        kept = {}
        for name, inode in durable.items():
            size = choose.randint(safe.get(inode, 0), len(data[inode])) if choose.random() < 0.7 else safe.get(inode, 0)
            tail = b"\0" * choose.randint(0, 64) if safe.get(inode, 0) < size and choose.random() < 0.3 else b""
            kept[name] = data[inode][:size] + tail
        return kept


@pytest.mark.slow
@pytest.mark.parametrize("sync_seconds", [0.0, 1e9])
def test_a_power_cut_at_any_time(
    tmp_path: Path, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, sync_seconds: float
) -> None:
    monkeypatch.setattr(sq.core.ledger, "_SYNC_SECONDS", sync_seconds)
    said: dict[str, int] = {}
    with monkeypatch.context() as patch:
        disk = Disk(tmp_path / "watched", patch)
        with opened(tmp_path / "watched") as ledger:
            for item in ledger.todo(Item(f"k{i}", i) for i in range(10)):
                record(ledger, item)
                said[item.key] = len(disk.events)
            ledger.finish()
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    assert {event[0] for event in disk.events} == {"create", "write", "fsync", "replace", "unlink"}
    choose = random.Random(7)
    for count in range(len(disk.events) + 1):
        for attempt in range(4):
            directory = tmp_path / f"cut-{count}-{attempt}"
            directory.mkdir()
            for name, data in disk.after_power_cut(count, choose).items():
                (directory / name).write_bytes(data)
            if not (directory / "manifest.json").exists() and any(directory.glob("manifest.json.tmp")):
                assert count < 12  # only before the first manifest was in place
            computed, error = run(directory)
            assert error is None, (count, attempt)
            assert contents(directory) == reference
            whole = {f"k{i}" for i in range(10) if said[f"k{(i // 4) * 4 + 3}" if i < 8 else "k9"] <= count}
            synced = {key for key, at in said.items() if at <= count} if sync_seconds == 0 else set()
            assert not (whole | synced) & set(computed)
            shutil.rmtree(directory)
