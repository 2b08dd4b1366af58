"""Landlock: the second choice where a container forbids namespaces. Files are out of reach by the kernel's own rule.

A program may read Python's files and write its own temporary directory; nothing else can be opened, made or removed,
and no process outside its domain can be signalled or traced. Sockets and child processes are refused by the system
call filter (`seccomp.filter_alone`).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

from sq.sandbox.inside.linux import syscall

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_ALL = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_NET = 0b11
_SCOPES = 0b11
NEEDED = 3
"""The first version that knows truncation: with an older one a program could empty a file that it cannot open."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def version() -> int:
    """The version the kernel has in force; 0 without Landlock."""
    try:
        return syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))
    except OSError:
        return 0


def ruleset(readable: Sequence[str], tmp: str) -> int:
    """A descriptor of the rules: read what is below `readable`, write below `tmp`, reach no other file.

    Made once by the template; each program enforces it on itself.
    """
    abi = version()
    everything = _ALL[min(abi, 5)]
    attributes = struct.pack("=QQQ", everything, _NET if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    rules = syscall(_CREATE, ctypes.create_string_buffer(attributes), ctypes.c_size_t(size), ctypes.c_uint(0))
    reading = _EXECUTE | _READ_FILE | _READ_DIR
    for path in readable:
        _allow(rules, path, reading)
    for path in _DEVICES:
        _allow(rules, path, _READ_FILE | _WRITE_FILE | _TRUNCATE)
    _allow(rules, tmp, everything)
    return rules


def enforce(rules: int) -> None:
    """Put this process, and all that it will start, under the rules for good."""
    syscall(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint(0))


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd))
        syscall(_ADD, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint(0))
    finally:
        os.close(fd)
