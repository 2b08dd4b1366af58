"""What running programs use together, seen from outside: memory, threads, and files where no mount bounds them.

The kernel's limits are for a process each; these are sums, taken four times a second. A program above them is ended.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sq.sandbox.config import SandboxConfig

_OWN_THREADS = 4
"""Threads of the sandbox itself that are counted with the program's."""
_COUNTED = ("RssAnon", "RssShmem", "Threads")


def memory_or_threads_exceeded(
    templates: Iterable[int], parents: dict[int, int], config: SandboxConfig
) -> tuple[str, str] | None:
    """The status and the reason, if what was forked from templates uses more than is allowed."""
    uses = [_usage(pid) for top in templates for pid in _family(top, parents) if pid != top]
    held, threads = sum(mb for mb, _ in uses), sum(count for _, count in uses)
    if held > config.memory_mb:
        return "memory", f"its processes together held {int(held):,} MB, and {config.memory_mb:,} are allowed"
    if threads > config.processes + _OWN_THREADS:
        return "memory", f"it had {threads:,} threads, and {config.processes:,} are allowed"
    return None


def files_exceeded(top: str, config: SandboxConfig) -> tuple[str, str] | None:
    """The status and the reason, if a directory holds more files or bytes than is allowed."""
    count, size, waiting = 0, 0, [top]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:  # gone since, or too deep to be named
            for entry in entries:
                count += 1
                size += entry.stat(follow_symlinks=False).st_blocks * 512
                if count > config.tmp_files:
                    return "output", f"it made more than {config.tmp_files:,} files"
                if size > config.tmp_mb * 2**20:
                    return "output", f"its files held more than {config.tmp_mb:,} MB"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return None


def kill(pids: Iterable[int]) -> None:
    """Kill these processes, as far as they are there."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def parent_pids() -> dict[int, int]:
    """The parent of every process that is seen here."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
            parents[int(name)] = int(fields[1])
    return parents


def descendants(pid: int, parents: dict[int, int], levels: int) -> list[int]:
    """The processes that are so many levels below one."""
    pids = [pid]
    for _ in range(levels):
        pids = [child for child, parent in parents.items() if parent in pids]
    return pids


def _family(pid: int, parents: dict[int, int]) -> Iterator[int]:
    yield pid
    for child in [child for child, parent in parents.items() if parent == pid]:
        yield from _family(child, parents)


def _usage(pid: int) -> tuple[float, int]:
    """Memory that a process holds besides files, in MB (what it shares counts for each that does), and its threads."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return 0.0, 0
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines) if name in _COUNTED}
    anonymous, shared, threads = (int(fields[name][0]) if name in fields else 0 for name in _COUNTED)
    return (anonymous + shared) / 2**10, threads
