"""The first process of a worker: makes the isolation, says what is in force, and becomes the template.

`python -m sq.sandbox.inside.start CONFIG` takes jobs from a socket and reports on its output. The template is the
process that every program is forked from: inside all isolation, with Python warm, never running a program itself.
"""

from __future__ import annotations

import _socket  # `socket` brings much along that every fork would pay for
import contextlib
import gc
import importlib
import json
import os
import random
import signal
import struct
import sys
from typing import Any

from sq.sandbox.inside import filesystem, syscalls
from sq.sandbox.inside.confine import (
    FULL,
    LANDLOCK,
    LANDLOCK_NEEDED,
    NOBODY,
    WEAK,
    Confinement,
    Limits,
    landlock_version,
    prepare_template,
)
from sq.sandbox.inside.jobs import run_job
from sq.sandbox.inside.processes import NamespaceFiles, Processes
from sq.sandbox.messages import DisconnectedError, send

WARM = (
    "abc", "bisect", "collections.abc", "contextlib", "copy", "functools", "heapq", "itertools", "json", "math",
    "operator", "random", "re", "string", "time", "typing",
)  # fmt: skip
"""What programs import most and costs little: every module makes every fork dearer."""
_TWO_FILES = struct.Struct("=ii")


def main(config: dict[str, Any]) -> None:
    """Become a template, in the isolation that `config` asks for, or say why that is refused."""
    requests, replies = config["socket"], os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limits = Limits(**config["limits"])
    readable = filesystem.python_paths(config["packages"]) if config["tier"] != WEAK else []
    sys.path.extend(config["packages"])
    for name in (*WARM, *config["warm"]):
        with contextlib.suppress(ImportError):  # one that is not there is missed by those that want it
            importlib.import_module(name)
    sys.path[:] = [p for p in sys.path if p != config["ours"]]
    confinement = Confinement(tier=config["tier"], tmp=config["tmp"], readable=tuple(readable))
    with contextlib.suppress(DisconnectedError):
        if confinement.tier == FULL:
            _in_namespaces(confinement, limits, requests, replies)
        elif confinement.tier == LANDLOCK and landlock_version() < LANDLOCK_NEEDED:
            send(replies, {"refused": f"landlock version {landlock_version()}, and {LANDLOCK_NEEDED} is needed"})
        else:
            _serve(confinement, limits, requests, replies, NamespaceFiles())


def _serve(confinement: Confinement, limits: Limits, requests: int, replies: int, namespace: NamespaceFiles) -> None:
    """Do jobs until the owner is gone."""
    threads = {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")}
    os.environ.clear()
    directory = {"HOME": confinement.tmp, "TMPDIR": confinement.tmp}
    os.environ.update({"PATH": "/bin", "LC_ALL": "C.UTF-8", **directory, **threads})
    processes = Processes(prepare_template(confinement, limits), limits, requests, namespace)
    if syscalls.supported():
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    os.chdir(confinement.tmp)
    for name in [n for n in sys.modules if n == "sq" or n.startswith("sq.")]:
        del sys.modules[name]
    random.seed(0)
    gc.collect()
    gc.freeze()
    gc.disable()
    send(replies, {"ready": True})
    line = _socket.socket(fileno=requests)
    while True:
        kind, files = _next_job(line)
        report = run_job(kind, files, processes, limits)
        for fd in files:
            os.close(fd)
        processes.clean()
        send(replies, report)


def _next_job(line: _socket.socket) -> tuple[str, tuple[int, int]]:
    """A job's kind, and the files that hold its program and its tests, unread."""
    data, extra, _, _ = line.recvmsg(4096, _socket.CMSG_SPACE(_TWO_FILES.size))
    if not data or not extra:
        raise DisconnectedError("the owner is gone")
    program, tests = _TWO_FILES.unpack_from(extra[0][2])
    return data.decode(), (program, tests)


def _in_namespaces(confinement: Confinement, limits: Limits, requests: int, replies: int) -> None:
    """Two forks: one enters the namespaces and is given its identity by us, its child is the first of its own pids."""
    asked, given = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(asked[0])
        os.close(given[1])
        try:
            _enter(confinement, limits, asked[1], given[0], requests, replies)
        except OSError as error:
            send(replies, {"refused": str(error)})
        finally:
            os._exit(0)
    os.close(asked[1])
    os.close(given[0])
    if os.read(asked[0], 1):
        os.write(given[1], b"2" if os.geteuid() == 0 and _map_users(pid) else b"1")
    os.close(requests)
    os.close(replies)
    os.waitpid(pid, 0)


def _enter(confinement: Confinement, limits: Limits, asked: int, given: int, requests: int, replies: int) -> None:
    user, group = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.ALL_NAMESPACES)
    os.write(asked, b"?")
    several = os.read(given, 1) == b"2"
    if several:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    else:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{NOBODY} {user} 1")
        _write("/proc/self/gid_map", f"{NOBODY} {group} 1")
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    ask, answer = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        for fd in (requests, replies, ask[1], answer[0]):
            os.close(fd)
        while os.read(ask[0], 1):
            filesystem.fresh_tmp(limits.tmp_options)
            os.write(answer[1], b"!")
        os.waitpid(pid, 0)
        return
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.close(ask[0])
    os.close(answer[1])
    namespace = NamespaceFiles(os.open("/proc/self/ns/pid", os.O_RDONLY), ask[1], answer[0])
    filesystem.enter(confinement.readable, limits.tmp_options)
    inner = Confinement(tier=FULL, tmp=filesystem.TMP, change_user=several)
    with contextlib.suppress(DisconnectedError):
        _serve(inner, limits, requests, replies, namespace)


def _map_users(pid: int) -> bool:
    """Give a process our own identity as its root, and another, which no file belongs to, as its nobody."""
    unused = 1_900_000_000 + os.getpid() % 90_000_000  # no person and no service; one a worker, so limits are its own
    for outside in (unused, NOBODY):
        try:
            _write(f"/proc/{pid}/uid_map", f"0 0 1\n{NOBODY} {outside} 1")
            _write(f"/proc/{pid}/gid_map", f"0 0 1\n{NOBODY} {outside} 1")
            return True
        except OSError:
            continue
    return False


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
