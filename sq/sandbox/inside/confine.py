"""What a forked process does to itself before it runs anything: limits, then identity, then the filter.

Where a container forbids namespaces, Landlock is the second choice: a program may read Python's files and write its own
temporary directory; nothing else can be opened, made or removed, and no process outside can be signalled or traced.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import struct
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from sq.sandbox.inside import seccomp, syscalls

NOBODY = 65534
FULL, LANDLOCK, WEAK = "namespaces", "landlock", "weak"
_SPARE = 4
"""Processes of the sandbox itself that are counted with the program's."""
MB = 2**20
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_ALL = {3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Every right that a version knows."""
_NET = 0b11
_SCOPES = 0b11
LANDLOCK_NEEDED = 3
"""The first version that knows truncation: with an older one a program could empty a file that it cannot open."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


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


def prepare_template(confinement: Confinement, limits: Limits) -> Confinement:
    """What the template does to itself, as its children inherit it at no cost; the confinement with what was made."""
    wanted = dict(NOFILE=128, CORE=0, MEMLOCK=0, MSGQUEUE=0, SIGPENDING=256)
    if sys.platform != "darwin":  # where a process of Python reserves more than any sensible bound
        wanted["AS"] = limits.memory_mb * MB
    for name, value in wanted.items():
        if kind := vars(resource).get(f"RLIMIT_{name}"):
            _limit(kind, value)
    os.umask(0o022)
    if confinement.tier == WEAK:
        _running()
        return confinement
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)  # no exec gains anything; seccomp needs it too
    if confinement.tier == FULL or os.geteuid() == 0:  # anyone else has no capability, and may not even say so
        syscalls.bound_capabilities()
    seccomp.install(seccomp.base_filter())
    if confinement.tier == FULL:
        return confinement
    return confinement._replace(rules=_landlock_rules(confinement.readable, confinement.tmp))


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
        syscalls.syscall(_RESTRICT, ctypes.c_int(confinement.rules), ctypes.c_uint(0))
        syscalls.drop_capabilities()
        seccomp.install(seccomp.landlock_filter(os.getpid()))
        return
    _limit(resource.RLIMIT_NPROC, limits.processes + _SPARE)  # counted in the user namespace: ours alone
    if confinement.change_user:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)  # and with that, all capabilities are gone
    else:
        syscalls.drop_capabilities()


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


def landlock_version() -> int:
    """The version the kernel has in force; 0 without Landlock."""
    try:
        return syscalls.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))
    except OSError:
        return 0


def _landlock_rules(readable: Sequence[str], tmp: str) -> int:
    """A descriptor of the rules: read what is below `readable`, write below `tmp`, reach no other file."""
    abi = landlock_version()
    everything = _ALL[min(abi, 5)]
    attributes = struct.pack("=QQQ", everything, _NET if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    rules = syscalls.syscall(_CREATE, ctypes.create_string_buffer(attributes), ctypes.c_size_t(size), ctypes.c_uint(0))
    reading = _EXECUTE | _READ_FILE | _READ_DIR
    for path in readable:
        _allow(rules, path, reading)
    for path in _DEVICES:
        _allow(rules, path, _READ_FILE | _WRITE_FILE | _TRUNCATE)
    _allow(rules, tmp, everything)
    return rules


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd))
        syscalls.syscall(_ADD, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint(0))
    finally:
        os.close(fd)
