"""Linux calls that Python 3.11 has not, through ctypes; each raises OSError with its name."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
ALL_NAMESPACES = NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC = 32, 1024, 2048, 4096, 16384
MS_PRIVATE, MS_RELATIME = 1 << 18, 1 << 21
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_SECUREBITS = 1, 4, 24, 28
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 47
_CAP_AMBIENT_CLEAR_ALL = 4
_SECUREBITS = 0b11000011
"""noroot, no_cap_ambient_raise and their locks: no exec by uid 0 of a namespace, and no ambient set, gives any."""
_CAP_VERSION_3 = 0x20080522
_LAST_CAP = 63

MACHINE = os.uname().machine
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Leave the namespaces of these kinds for new ones."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace of `fd` (for pids: its future children do)."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """The system call of that name."""
    what, options = (text.encode() if text else None for text in (kind, data))
    _check(
        _libc.mount(os.fsencode(source), os.fsencode(target), what, ctypes.c_ulong(flags), options), f"mount {target}"
    )


def detach(target: str) -> None:
    """Unmount, now for new users and later for those that have it in use."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of the file system and put the old one at `old`."""
    _check(_libc.syscall(_PIVOT_ROOT[MACHINE], os.fsencode(new), os.fsencode(old)), "pivot_root")


def prctl(option: int, value: int, third: int = 0) -> None:
    """The system call of that name."""
    arguments = [ctypes.c_ulong(a) for a in (value, third, 0, 0)]
    _check(_libc.prctl(option, *arguments), f"prctl {option}")


def bound_capabilities() -> None:
    """See to it that no child of this process gains a capability, by any id or exec; those it has stay."""
    prctl(PR_SET_SECUREBITS, _SECUREBITS)
    prctl(PR_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)
    for capability in range(_LAST_CAP + 1):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            break


def drop_capabilities() -> None:
    """Give up every capability."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAP_VERSION_3, 0))
    nothing = ctypes.create_string_buffer(24)
    _check(_libc.syscall(_CAPSET[MACHINE], header, nothing), "capset")


def syscall(number: int, *arguments: object) -> int:
    """A call that the C library has no function for."""
    return _check(_libc.syscall(ctypes.c_long(number), *arguments), f"system call {number}")


def supported() -> bool:
    """Whether this is a Linux whose system call numbers are known here."""
    return sys.platform == "linux" and MACHINE in _CAPSET and struct.calcsize("P") == 8


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
