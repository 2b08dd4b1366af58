"""What running programs hold together, looked at from outside: memory, threads, and files where no mount bounds them.

Limits of the kernel are for a process each; these are sums, so they are looked at, four times a second, and a program
that is over them is ended.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from sq.sandbox.config import SandboxConfig

_SPARE = 4
"""Threads of the sandbox itself that are counted with the program's."""
_COUNTED = ("RssAnon", "RssShmem", "Threads")


def too_much(template: Iterable[int], parents: dict[int, int], config: SandboxConfig) -> tuple[str, str] | None:
    """The status and the reason, if what was forked from a template holds more memory or threads than is allowed."""
    uses = [_use(pid) for top in template for pid in _family(top, parents) if pid != top]
    held, threads = sum(mb for mb, _ in uses), sum(count for _, count in uses)
    if held > config.memory_mb:
        return "memory", f"its processes together held {int(held):,} MB, and {config.memory_mb:,} are allowed"
    if threads > config.processes + _SPARE:
        return "memory", f"it had {threads:,} threads, and {config.processes:,} are allowed"
    return None


def too_many_files(top: str, config: SandboxConfig) -> tuple[str, str] | None:
    """The status and the reason, if a directory holds more files or bytes than is allowed."""
    count, size, waiting = 0, 0, [top]
    while waiting and count <= config.tmp_files and size <= config.tmp_mb * 2**20:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if count > config.tmp_files:
                        break
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:  # gone since, or too deep to be named
            continue
    if count > config.tmp_files:
        return "output", f"it made more than {config.tmp_files:,} files"
    return ("output", f"its files held more than {config.tmp_mb:,} MB") if size > config.tmp_mb * 2**20 else None


def end(pids: Iterable[int]) -> None:
    """Kill these processes, as far as they are there."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def parents() -> dict[int, int]:
    """The parent of every process that is seen here."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
                found[int(name)] = int(fields[1])
            except (OSError, IndexError, ValueError):
                continue
    return found


def below(pid: int, parents: dict[int, int], levels: int) -> list[int]:
    """The processes that are so many levels below one."""
    found = [pid]
    for _ in range(levels):
        found = [child for child, parent in parents.items() if parent in found]
    return found


def _family(pid: int, parents: dict[int, int]) -> Iterator[int]:
    yield pid
    for child in [child for child, parent in parents.items() if parent == pid]:
        yield from _family(child, parents)


def _use(pid: int) -> tuple[float, int]:
    """Memory that a process holds besides files, in MB (what it shares counts for each that does), and its threads."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return 0.0, 0
    found = {name: value for name, _, value in (line.partition(":") for line in lines) if name in _COUNTED}
    numbers = [int(found[name].split()[0]) if name in found else 0 for name in _COUNTED]
    return (numbers[0] + numbers[1]) / 2**10, numbers[2]
