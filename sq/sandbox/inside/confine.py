"""What a forked process does to itself before it runs anything: limits, then identity, then the filter."""

from __future__ import annotations

import math
import os
import resource
import sys
from functools import lru_cache
from typing import NamedTuple

from sq.sandbox.inside import landlock, linux, seccomp

NOBODY = 65534
FULL, LANDLOCK, WEAK = "namespaces", "landlock", "weak"
_SPARE = 4
"""Processes of the sandbox itself that are counted with the program's."""
MB = 2**20


class Limits(NamedTuple):
    """What one program may use."""

    cpu_seconds: float
    wall_seconds: float
    memory_mb: int
    processes: int
    file_mb: int
    tmp_mb: int
    tmp_files: int
    output_mb: int

    @property
    def tmp_options(self) -> str:
        """How its /tmp is mounted."""
        return f"mode=1777,size={self.tmp_mb}m,nr_inodes={self.tmp_files}"


class Confinement(NamedTuple):
    """The isolation in force for every program of a worker."""

    tier: str
    tmp: str
    readable: tuple[str, ...] = ()
    change_user: bool = False
    rules: int = -1


def prepare(confinement: Confinement, limits: Limits) -> Confinement:
    """What the template does to itself, because its children inherit it: it costs nothing for each program.

    Returns:
        The confinement, with what was made for it.
    """
    wanted = {
        "RLIMIT_NOFILE": 128,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_SIGPENDING": 256,
    }
    if sys.platform != "darwin":  # where a process of Python reserves more than any sensible bound
        wanted["RLIMIT_AS"] = limits.memory_mb * MB
    for name, value in wanted.items():
        if name in vars(resource):
            _limit(vars(resource)[name], value)
    os.umask(0o022)
    if confinement.tier == WEAK:
        _running()
        return confinement
    linux.no_new_privileges()
    if confinement.tier == FULL or os.geteuid() == 0:  # anyone else has no capability, and may not even say so
        linux.bound_capabilities()
    seccomp.install(seccomp.filter_of())
    if confinement.tier == FULL:
        return confinement
    seccomp.filter_for(0)
    return confinement._replace(rules=landlock.ruleset(confinement.readable, confinement.tmp))


def confine(confinement: Confinement, limits: Limits) -> None:
    """What a forked process does to itself before it runs anything; there is no way back."""
    os.setsid()  # a signal to its own group must not reach ours
    seconds = max(1, math.ceil(limits.cpu_seconds))
    _limit(resource.RLIMIT_CPU, seconds, spare=1)  # SIGXCPU says what it died of; what ignores that has a second more
    _limit(resource.RLIMIT_FSIZE, limits.file_mb * MB)
    if confinement.tier == WEAK:
        _limit(resource.RLIMIT_NPROC, _running() + limits.processes)
        return
    if confinement.tier == LANDLOCK:
        landlock.enforce(confinement.rules)
        linux.drop_capabilities()
        seccomp.install(seccomp.filter_for(os.getpid()))
        return
    _limit(resource.RLIMIT_NPROC, limits.processes + _SPARE)  # counted in the user namespace: ours alone
    if confinement.change_user:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)  # and with that, all capabilities are gone
    else:
        linux.drop_capabilities()


def _limit(kind: int, value: int, spare: int = 0) -> None:
    """Limit a resource, for good to `spare` more."""
    most = resource.getrlimit(kind)[1]
    soft, hard = (v if most == resource.RLIM_INFINITY else min(v, most) for v in (value, value + spare))
    resource.setrlimit(kind, (soft, hard))


@lru_cache
def _running() -> int:
    """Processes and threads that the user has, where the system tells it; else a number that leaves room for them."""
    try:
        own = [d for d in os.listdir("/proc") if d.isdigit() and os.stat(f"/proc/{d}").st_uid == os.getuid()]
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in own)
    except OSError:
        return 1000
