"""Power cuts: what a disk may hold after one, at every moment of a ledger's work, and what is made of it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledger_work import contents, opened, record, run

import sq.core.shard
from sq.core.ledger import WorkItem


@pytest.fixture
def reference(tmp_path: Path) -> dict[str, bytes]:
    assert run(tmp_path / "reference")[1] is None
    return contents(tmp_path / "reference")


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
    monkeypatch.setattr(sq.core.shard, "_SYNC_SECONDS", sync_seconds)
    said: dict[str, int] = {}
    with monkeypatch.context() as patch:
        disk = Disk(tmp_path / "watched", patch)
        with opened(tmp_path / "watched") as ledger:
            for item in ledger.todo(WorkItem(f"k{i}", i) for i in range(10)):
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
