"""The first process of a worker: makes the isolation, says what is in force, and becomes the template.

`python -m sq.sandbox.inside.start CONFIG` reads jobs from its input and answers on its output. The template is the
process that every program is forked from: inside all isolation, with Python warm, and never running a program itself.
"""

from __future__ import annotations

import _socket  # `socket` brings much along that every fork would pay for
import gc
import importlib
import json
import os
import random
import signal
import struct
import sys
import time
from typing import Any

from sq.sandbox.inside import landlock, linux, root, seccomp
from sq.sandbox.inside.confine import FULL, LANDLOCK, NOBODY, WEAK, Confinement, Limits, prepare
from sq.sandbox.inside.jobs import perform
from sq.sandbox.inside.processes import Processes, TemplateProcess
from sq.sandbox.wire import GoneError, send

WARM = (
    "abc", "bisect", "collections.abc", "contextlib", "copy", "functools", "heapq", "itertools", "json", "math",
    "operator", "random", "re", "string", "time", "typing",
)  # fmt: skip
"""What programs import most and costs little: every module makes every fork dearer."""
_INT = struct.Struct("=i")
_KINDS = linux.NEWUSER | linux.NEWNS | linux.NEWNET | linux.NEWIPC | linux.NEWUTS | linux.NEWPID | linux.NEWCGROUP


def main(config: dict[str, Any]) -> None:
    """Become a template, in the isolation that `config` asks for, or say why that is refused."""
    requests, replies = config["socket"], os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limits = Limits(**config["limits"])
    readable = root.python_paths(config["packages"]) if config["tier"] != WEAK else []
    sys.path.extend(config["packages"])
    for name in (*WARM, *config["warm"]):
        _warm(name)
    sys.path[:] = [p for p in sys.path if p != config["ours"]]
    confinement = Confinement(tier=config["tier"], tmp=config["tmp"], readable=tuple(readable))
    if confinement.tier == FULL:
        _in_namespaces(confinement, limits, requests, replies)
    elif confinement.tier == LANDLOCK and landlock.version() < landlock.NEEDED:
        _send(replies, {"refused": f"landlock version {landlock.version()}, and {landlock.NEEDED} is needed"})
    else:
        _serve(confinement, limits, requests, replies, TemplateProcess())


def _serve(confinement: Confinement, limits: Limits, requests: int, replies: int, template: TemplateProcess) -> None:
    threads = {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")}
    os.environ.clear()
    os.environ.update(
        {"PATH": "/bin", "HOME": confinement.tmp, "TMPDIR": confinement.tmp, "LC_ALL": "C.UTF-8", **threads}
    )
    processes = Processes(prepare(confinement, limits), limits, requests, template)
    if linux.supported():
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    os.chdir(confinement.tmp)
    for name in [n for n in sys.modules if n == "sq" or n.startswith("sq.")]:
        del sys.modules[name]
    random.seed(0)
    gc.collect()
    gc.freeze()
    gc.disable()
    _send(replies, {"ready": True, "filtered": confinement.tier != WEAK and seccomp.available()})
    line = _socket.socket(fileno=requests)
    while True:
        try:
            job, files = _next_job(line)
            started = time.monotonic()
            outcome = perform(job, files, processes, limits)
            for fd in files:
                os.close(fd)
            processes.clean()
            send(replies, {**outcome, "wall": time.monotonic() - started})
        except GoneError:
            return


def _next_job(line: _socket.socket) -> tuple[dict[str, Any], tuple[int, int]]:
    """A job's kind and time, and the files that hold its program and its tests, unread."""
    word, extra, _, _ = line.recvmsg(4096, _socket.CMSG_SPACE(2 * _INT.size))
    if not word or not extra:
        raise GoneError("the owner is gone")
    program, tests = (_INT.unpack_from(extra[0][2], at)[0] for at in (0, _INT.size))
    return json.loads(word), (program, tests)


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
            _send(replies, {"refused": str(error)})
        finally:
            os._exit(0)
    os.close(asked[1])
    os.close(given[0])
    if os.read(asked[0], 1):
        os.write(given[1], b"2" if os.geteuid() == 0 and _map_user(pid) else b"1")
    os.close(requests)
    os.close(replies)
    os.waitpid(pid, 0)


def _enter(confinement: Confinement, limits: Limits, asked: int, given: int, requests: int, replies: int) -> None:
    user, group = os.geteuid(), os.getegid()
    linux.unshare(_KINDS)
    os.write(asked, b"?")
    several = os.read(given, 1) == b"2"
    if several:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    else:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{NOBODY} {user} 1")
        _write("/proc/self/gid_map", f"{NOBODY} {group} 1")
    linux.die_with_parent()
    ask, answer = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        for fd in (requests, replies, ask[1], answer[0]):
            os.close(fd)
        while os.read(ask[0], 1):
            root.fresh_tmp(limits.tmp_options)
            os.write(answer[1], b"!")
        os.waitpid(pid, 0)
        return
    linux.die_with_parent()
    os.close(ask[0])
    os.close(answer[1])
    template = TemplateProcess(own_pids=os.open("/proc/self/ns/pid", os.O_RDONLY), ask_fresh=ask[1], is_fresh=answer[0])
    root.enter(confinement.readable, limits.tmp_options)
    _serve(Confinement(tier=FULL, tmp=root.TMP, change_user=several), limits, requests, replies, template)


def _map_user(pid: int) -> bool:
    """Give a process our own identity as its root, and another, which no file belongs to, as its nobody."""
    for outside in (_user_of_nobody(), NOBODY):
        try:
            _write(f"/proc/{pid}/uid_map", f"0 0 1\n{NOBODY} {outside} 1")
            _write(f"/proc/{pid}/gid_map", f"0 0 1\n{NOBODY} {outside} 1")
            return True
        except OSError:
            continue
    return False


def _user_of_nobody() -> int:
    """A user that no person and no service has: one for each worker, so that limits are its own."""
    return 1_900_000_000 + os.getpid() % 90_000_000


def _warm(name: str) -> None:
    """Load a module for all programs; one that is not there is missed by those that want it."""
    try:
        importlib.import_module(name)
    except ImportError:
        pass


def _send(replies: int, message: dict[str, Any]) -> None:
    try:
        send(replies, message)
    except GoneError:
        pass


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
