"""The process of which a recipe's stages are forks, see `preload`: `python -m sq.recipe.preload_server`.

A stage is forked twice, so that it becomes a child of `sq run`, as one that was started afresh is: the same wait, CPU
seconds, group, and death with the run. From there it is its command: the same words, environment, directory and log,
and the script runs as `__main__`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import runpy
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

from sq.recipe.preload import OF_VLLM


def _serve(run: int, files: Sequence[int], modules: Sequence[str]) -> list[str]:
    """Fork a stage for each order that comes; in a stage's fork, its words."""
    _die_with(run)
    server, before = os.getpid(), dict(os.environ)
    _import(modules)
    _fork_nothing()
    number = len(files) > 1 and os.fork() == 0
    if number:
        _die_with(server)
        before |= _environment_of_vllm()
        _import(OF_VLLM)
        _fork_nothing()
    for other in set(files) - {files[number]}:
        os.close(other)
    connection = socket.socket(fileno=files[number])
    if not _is_one_thread():  # a fork has none of the other threads, and all of their locks
        sys.exit(1)
    imported = {name: (value, before.get(name)) for name, value in os.environ.items() if before.get(name) != value}
    connection.sendall(b"+")
    for line in connection.makefile():
        if between := os.fork():
            os.waitpid(between, 0)
            continue
        between = os.getpid()
        try:
            if os.fork():
                os._exit(0)
        except OSError:
            connection.sendall(b"0")
            os._exit(1)
        while os.getppid() == between:
            time.sleep(0.001)
        return _become(run, connection, imported, *json.loads(line))
    sys.exit()


def _become(
    run: int, connection: socket.socket, imported: Mapping[str, tuple[str, str | None]],
    words: list[str], environment: dict[str, str], directory: str, log: str,
) -> list[str]:  # fmt: skip
    """Make a fork what its command would be, up to its first line."""
    try:
        os.setpgid(0, 0)
        os.chdir(directory)
        written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(written, 1)
        os.dup2(written, 2)
        os.close(written)
        if os.getppid() != run:
            raise OSError("it is no child of the run")
        _die_with(run)
    except OSError:
        connection.sendall(b"0")
        os._exit(1)
    connection.sendall(str(os.getpid()).encode())
    connection.close()
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch and (torch.cuda._is_in_bad_fork() or torch.cuda.is_initialized()):
        os.execve(words[0], words, environment)
    own = {name: value for name, (value, before) in imported.items() if environment.get(name) == before}
    os.environ.clear()
    os.environ.update(environment | own)
    if numpy:
        numpy.random.seed()  # as in a process of its own: no two stages draw the same
    sys.argv = sys.orig_argv[1:] = words[1:]
    return words[1:]


def _import(modules: Iterable[str]) -> None:
    """Import in a thread at low priority, which a process could not leave again; what is not installed is left out."""

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        for name in modules:
            with suppress(ImportError):
                importlib.import_module(name)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def _fork_nothing() -> None:
    """OpenBLAS ends its threads before a fork, and starts others when it needs them."""
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        os._exit(0)


def _is_one_thread() -> bool:
    """Whether it is, in a second at the latest: that which has imported is just ending."""
    deadline = time.monotonic() + 1
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(os.listdir("/proc/self/task")) == 1


def _environment_of_vllm() -> dict[str, str]:
    """What vLLM's log is told when it is imported: an engine says later how much of it, and where to."""
    from sq.engine import engine_log, vllm_environment

    os.environ[engine_log.FILE] = os.devnull
    vllm_environment.environment(1)
    return dict(os.environ)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(1, SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _run(words: list[str]) -> None:
    """What `python WORDS` does."""
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        if not sys.flags.safe_path:
            sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    _run(_serve(*json.loads(sys.argv[1])))
