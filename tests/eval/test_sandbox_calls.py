"""The system calls that a program is refused: each one by name, called so that anything else would be seen."""

import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import isolation_here
import pytest

from sq.core.errors import EngineError
from sq.sandbox.config import SandboxConfig
from sq.sandbox.inside import seccomp
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Calls, Program

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
REFUSED = """
    pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount
    fspick pidfd_open pidfd_getfd process_madvise mount_setattr quotactl_fd memfd_secret process_mrelease
    set_mempolicy_home_node connect bind listen accept accept4 socketpair socket unshare setns mount umount2 pivot_root
    chroot ptrace process_vm_readv process_vm_writev kcmp perf_event_open bpf userfaultfd add_key request_key keyctl
    kexec_load kexec_file_load init_module finit_module delete_module reboot syslog acct swapon swapoff quotactl
    personality settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname vhangup memfd_create shmget
    shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink mlock mlock2
    mlockall mbind set_mempolicy migrate_pages move_pages name_to_handle_at open_by_handle_at fanotify_init
    fanotify_mark mknodat setxattr lsetxattr fsetxattr lookup_dcookie nfsservctl
""".split()
X86_ONLY = "iopl ioperm mknod modify_ldt _sysctl uselib sysfs".split()
ALONE = """
    kill tkill rt_sigqueueinfo rt_tgsigqueueinfo setpriority sched_setaffinity sched_setscheduler sched_setparam
    sched_setattr ioprio_set fchmod fchmodat fchown fchownat utimensat truncate removexattr lremovexattr fremovexattr
    setsid setpgid
""".split()
ALONE_X86 = "fork vfork chmod chown lchown utime utimes futimesat".split()
KERNEL_TOO = set("""
    move_mount fsopen fsmount fspick pivot_root reboot syslog acct swapoff sethostname setdomainname vhangup
    fanotify_init init_module finit_module delete_module kexec_load kexec_file_load swapon iopl ioperm
""".split())  # fmt: skip
"""What the kernel itself refuses with EPERM, whatever the arguments, to a process without capabilities."""
SOURCE = """
import ctypes, errno
def f(numbers):
    c, out = ctypes.CDLL(None, use_errno=True), {}
    for name, number in numbers.items():
        ctypes.set_errno(0)
        given = 1 if name == 'msgget' else -1  # -1 would make a queue that stays
        result = c.syscall(ctypes.c_long(number), *[ctypes.c_long(given)] * 6)
        out[name] = errno.errorcode.get(ctypes.get_errno(), result) if result < 0 else result
    return out
"""
on_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="these are the numbers of x86_64")
TABLES = seccomp.BOTH | seccomp.BY_ARGUMENT | seccomp.LANDLOCK_TOO


def numbers(*more):
    tables = {**seccomp.SAME, **{name: pair[0] for name, pair in TABLES.items()}}
    tables |= seccomp.X86_ONLY | seccomp.LANDLOCK_TOO_X86
    return {name: tables[name] for name in [*REFUSED, *X86_ONLY, *more]}


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def box(request):
    try:
        with Sandbox(SandboxConfig(isolation=request.param, workers=1, memory_mb=256)) as sandbox:
            yield sandbox
    except EngineError as error:
        isolation_here.refused(request.param, error)


def ask(box, numbers):
    (value,) = box.run_one(Program(source=SOURCE, tests=Calls(function="f", arguments=[[numbers]]))).values
    return value


@on_x86
def test_a_program_is_refused_every_call_of_the_table(box):
    more = [*ALONE, *ALONE_X86] if box.tier == "landlock" else []
    asked = numbers(*more)
    assert ask(box, asked) == dict.fromkeys(asked, "EPERM")


@on_x86
def test_a_program_is_told_that_newer_calls_are_not_there(box):
    newer = {"clone3": 435, "451": 451, "452": 452, "9999": 9999}
    assert ask(box, newer) == dict.fromkeys(newer, "ENOSYS")


@on_x86
def test_without_the_filter_the_same_calls_end_otherwise():
    """So that EPERM above is the filter's word: an ordinary user's process that no filter is on."""
    if "Seccomp:\t0" not in Path("/proc/self/status").read_text():
        pytest.skip("a filter is on this process already")
    asked = numbers(*ALONE)
    become = "os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)" if os.getuid() == 0 else ""
    code = f"import json, os\n{SOURCE}\n{become}\nprint(json.dumps(f({asked})))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    by_setting = {"io_uring_setup"} if _number("/proc/sys/kernel/io_uring_disabled") else set()
    assert said.keys() == asked.keys()
    assert {name for name, word in said.items() if word == "EPERM"} <= KERNEL_TOO | by_setting


def _number(path):
    return int(Path(path).read_text()) if Path(path).exists() else 0


def outcome(code, machine, number, *arguments, architecture=None):
    """What the kernel makes of a call under a filter: the filter's instructions, done here."""
    words = [number, architecture or ARCHITECTURES[machine], 0, 0]
    words += [half for a in [*arguments, *[-1] * 6][:6] for half in (a & 0xFFFFFFFF, (a >> 32) & 0xFFFFFFFF)]
    at = held = 0
    while True:
        kind, yes, no, value = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        if kind == 0x06:  # return
            return value
        if kind == 0x20:  # load
            held = words[value // 4]
        elif kind == 0x54:  # and
            held &= value
        else:  # jump if equal, at least, any bit
            taken = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[kind]
            at += yes if taken else no


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_of_each_machine(machine):
    x86 = machine == "x86_64"
    number = {**seccomp.SAME, **{name: pair[not x86] for name, pair in TABLES.items()}}
    number |= seccomp.X86_ONLY | seccomp.LANDLOCK_TOO_X86
    common, alone = seccomp.base_filter(machine), seccomp.landlock_filter(4321, machine)
    for code, names in (
        (common, [*REFUSED, *(X86_ONLY if x86 else [])]),
        (alone, [*ALONE, "unshare", "setns", *(ALONE_X86 if x86 else [])]),
    ):
        assert {n: outcome(code, machine, number[n]) for n in names} == dict.fromkeys(names, ERRNO | errno.EPERM)
        other = ARCHITECTURES["aarch64" if x86 else "x86_64"]
        assert outcome(code, machine, 63, architecture=other) == KILL  # there the number is another call's
        assert outcome(code, machine, 63) == ALLOW
        assert not x86 or outcome(code, machine, 0x40000000 + 39) == KILL
    assert {outcome(common, machine, n) for n in (435, 451, 9999)} == {ERRNO | errno.ENOSYS}


def test_what_the_filters_allow_by_the_arguments():
    common, alone = seccomp.base_filter("x86_64"), seccomp.landlock_filter(4321, "x86_64")
    for code, number, arguments, said in (
        (common, 272, [0x20000000], ALLOW),  # unshare: a process namespace, without a capability in vain
        (common, 272, [0x20020000], errno.EPERM),
        (common, 308, [3, 0x20000000], ALLOW),  # setns
        (common, 308, [3, 0x10000000], errno.EPERM),
        (common, 53, [1, 1 | 0o2000000], ALLOW),  # socketpair: streams, closed on exec
        (common, 53, [1, 2], errno.EPERM),
        (common, 56, [0x00010F00], ALLOW),  # clone
        *((common, 56, [1 << bit], errno.EPERM) for bit in (17, 25, 26, 27, 28, 29, 30)),  # in any new namespace
        (alone, 62, [4321, 9], ALLOW),  # kill
        (alone, 62, [4322, 9], errno.EPERM),
        (alone, 62, [0, 9], errno.EPERM),
        (alone, 234, [4321, 4322, 9], ALLOW),  # tgkill
        (alone, 234, [4322, 4322, 9], errno.EPERM),
        (alone, 302, [0, 7], ALLOW),  # prlimit64
        (alone, 302, [4322, 7], errno.EPERM),
        (alone, 56, [0x00010F00], ALLOW),  # clone: a thread
        (alone, 56, [0x00000011], errno.EAGAIN),
        *((alone, 72, [1, command], errno.EPERM) for command in (8, 10, 15, 1024, 1026)),  # fcntl
        (alone, 72, [1, 3], ALLOW),
        (alone, 16, [1, 0x5401], ALLOW),  # ioctl
        (alone, 16, [1, 0x8901], errno.ENOTTY),
    ):
        wanted = said if said == ALLOW else ERRNO | said
        assert outcome(code, "x86_64", number, *arguments) == wanted, (number, arguments)
