"""Disks that fill up, calls that fail, and directories that cannot be written."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_work import SCHEMA, contents, opened, record, run

from sq.core.errors import DirectoryError, LedgerError
from sq.core.ledger import Ledger, WorkItem, read_manifest, read_rows
from sq.core.recovery import make_directory


@pytest.fixture
def reference(tmp_path: Path) -> dict[str, bytes]:
    assert run(tmp_path / "reference")[1] is None
    return contents(tmp_path / "reference")


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace", "ftruncate", "unlink"])
def test_every_call_that_fails_ends_in_one_line_with_nothing_lost(
    tmp_path: Path, reference: dict[str, bytes], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call fails once in turn, a write with half of its bytes written; then the disk is sound again."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    real: Callable[..., Any] = getattr(os, name)
    calls = failed_at = 0

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
    assert failed_at > 8 or name in ("ftruncate", "unlink")


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
        for item in ledger.todo(WorkItem(f"k{i}", i) for i in range(10)):
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
        for item in ledger.todo(WorkItem(f"k{i}", i) for i in range(10)):
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
        record(ledger, next(ledger.todo(WorkItem(f"k{i}", i) for i in range(10))))
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
        record(ledger, next(ledger.todo(WorkItem(f"k{i}", i) for i in range(10))))
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


def test_where_no_directory_can_be_is_a_slip() -> None:
    with pytest.raises(DirectoryError, match=r"/proc/gone/out: no directory can be made there\. Choose another"):
        make_directory(Path("/proc/gone/out"))
