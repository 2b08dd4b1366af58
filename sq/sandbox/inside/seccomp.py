"""The system call filter of a program, written by hand as classic BPF.

Everything that a namespace would not hold alone is refused: sockets, new namespaces and mounts, other processes'
memory, kernel memory that no limit counts, and every call newer than this table (with ENOSYS, so that the C library
falls back on an older one). `landlock_filter` comes on top where there are no namespaces: no child processes, and no
signal or setting that reaches another process of the same user, or a file that can only be read.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterable

from sq.sandbox.inside.syscalls import MACHINE, prctl

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NEWEST = 450
"""The highest number that the tables below were made with; numbers from 424 on are the same on every machine."""
_X32 = 0x40000000
_NAMESPACES = 0x7E020000
_NEWPID = 0x20000000
_THREAD = 0x00010000
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _AND, _JUMP_EQUAL, _JUMP_GE, _JUMP_SET, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ARGUMENT = 16
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

SAME = {  # the same number on both machines
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447,
    "process_mrelease": 448, "set_mempolicy_home_node": 450,
}  # fmt: skip
BOTH = {  # x86_64, aarch64
    "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242),
    "socket": (41, 198), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272), "perf_event_open": (298, 241),
    "bpf": (321, 280), "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142), "syslog": (103, 116),
    "acct": (163, 89), "swapon": (167, 224), "swapoff": (168, 225), "quotactl": (179, 60), "personality": (135, 92),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58), "memfd_create": (319, 279),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197), "semget": (64, 190),
    "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181), "mlock": (149, 228),
    "mlock2": (325, 284), "mlockall": (151, 230), "mbind": (237, 235), "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "mknodat": (259, 33),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
}  # fmt: skip
X86_ONLY = {"iopl": 172, "ioperm": 173, "mknod": 133, "modify_ldt": 154, "_sysctl": 156, "uselib": 134, "sysfs": 139}

LANDLOCK_TOO = {
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "ioprio_set": (251, 30), "fchmod": (91, 52),
    "fchmodat": (268, 53), "fchown": (93, 55), "fchownat": (260, 54), "utimensat": (280, 88), "truncate": (76, 45),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setsid": (112, 157),
    "setpgid": (109, 154),
}  # fmt: skip
"""Refused besides where no namespace stands between the program and the user's other processes and files."""
LANDLOCK_TOO_X86 = {
    "fork": 57, "vfork": 58, "chmod": 90, "chown": 92, "lchown": 94, "utime": 132, "utimes": 235, "futimesat": 261,
}  # fmt: skip
_TYPE, _STREAM = 0xF, 1
"""A pair of streams can be sent nowhere else; one of datagrams reaches every socket of the machine, by its address."""
BY_ARGUMENT = {
    "clone": (56, 220), "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261), "fcntl": (72, 25),
    "ioctl": (16, 29), "unshare": (272, 97), "setns": (308, 268), "socketpair": (53, 199),
}  # fmt: skip
"""Refused or not by what is asked of them."""
_CLONE3 = 435
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX (the kernel then signals whomever they say), F_SETLEASE, F_NOTIFY."""
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Others change a file's flags, its owner, or a device."""


def base_filter(machine: str = MACHINE) -> bytes:
    """What every program is under, and the template, whose two calls it lets through: a new process namespace and back.

    Without a capability, as in a program, these fail.
    """
    place = int(machine != "x86_64")
    number = {name: pair[place] for name, pair in BY_ARGUMENT.items()}
    refused = [*SAME.values(), *(pair[place] for pair in BOTH.values()), *(X86_ONLY.values() if not place else ())]
    code = _start(machine)
    code += [_op(_JUMP_GE, NEWEST + 1, 0, 1), _return(_ERRNO | errno.ENOSYS)]
    code += [_op(_JUMP_EQUAL, _CLONE3, 0, 1), _return(_ERRNO | errno.ENOSYS)]
    code += _argument(number["clone"], [_op(_JUMP_SET, _NAMESPACES, 0, 1), _REFUSE])
    code += _argument(number["unshare"], [_op(_JUMP_EQUAL, _NEWPID, 1, 0), _REFUSE])
    code += _argument(number["setns"], [_op(_JUMP_EQUAL, _NEWPID, 1, 0), _REFUSE], which=1)
    code += _argument(number["socketpair"], [_op(_AND, _TYPE), _op(_JUMP_EQUAL, _STREAM, 1, 0), _REFUSE], which=1)
    return b"".join([*code, *_each(refused, _REFUSE), _return(_ALLOW)])


def landlock_filter(pid: int, machine: str = MACHINE) -> bytes:
    """What a program is under besides where no namespace stands around it; `pid` may signal itself only."""
    place = int(machine != "x86_64")
    number = {name: pair[place] for name, pair in BY_ARGUMENT.items()}
    refused = [pair[place] for pair in LANDLOCK_TOO.values()] + [number["unshare"], number["setns"]]
    refused += LANDLOCK_TOO_X86.values() if not place else ()
    code = _start(machine)
    for name in ("kill", "tgkill"):
        code += _argument(number[name], [_op(_JUMP_EQUAL, pid, 1, 0), _REFUSE])
    code += _argument(number["prlimit64"], [_op(_JUMP_EQUAL, 0, 1, 0), _REFUSE])
    code += _argument(number["clone"], [_op(_JUMP_SET, _THREAD, 1, 0), _return(_ERRNO | errno.EAGAIN)])
    code += _argument(number["fcntl"], _each(_FCNTL_REFUSED, _REFUSE), which=1)
    allowed = _each(_IOCTL_ALLOWED, _return(_ALLOW))
    code += _argument(number["ioctl"], [*allowed, _return(_ERRNO | errno.ENOTTY)], which=1)
    return b"".join([*code, *_each(refused, _REFUSE), _return(_ALLOW)])


def install(code: bytes) -> None:
    """Put this process, which can gain no privileges any more, and all that it will start, under a filter for good."""
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    held_program = ctypes.create_string_buffer(program)
    prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(held_program))


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _start(machine: str) -> list[bytes]:
    """Another machine's calls end the process; then the number of the call is loaded."""
    code = [_op(_LOAD, 4), _op(_JUMP_EQUAL, ARCHITECTURE[machine], 1, 0), _return(_KILL), _op(_LOAD, 0)]
    return code if machine != "x86_64" else [*code, _op(_JUMP_GE, _X32, 0, 1), _return(_KILL)]


def _return(value: int) -> bytes:
    return _op(_RETURN, value)


def _argument(number: int, rules: list[bytes], which: int = 0) -> list[bytes]:
    """Rules on the low half of an argument of a call; other calls jump over them, and the number is loaded again.

    The kernel reads these arguments as 32 bits too, so that nothing hides in the high half.
    """
    load = _op(_LOAD, _ARGUMENT + 8 * which)
    return [_op(_JUMP_EQUAL, number, 0, len(rules) + 2), load, *rules, _op(_LOAD, 0)]


def _each(numbers: Iterable[int], answer: bytes) -> list[bytes]:
    return [part for number in sorted(numbers) for part in (_op(_JUMP_EQUAL, number, 0, 1), answer)]


_REFUSE = _return(_ERRNO | errno.EPERM)
