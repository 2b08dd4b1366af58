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
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL


def _serve(run: int, files: Sequence[int], modules: Sequence[str], vllm: Sequence[str]) -> list[str]:
    """Fork a stage for each order that comes; in a stage's fork, its words."""
    _die_with(run)
    server, before = os.getpid(), dict(os.environ)
    _find_modules_as_scripts()
    _import(modules, before)
    number = len(files) > 1 and os.fork() == 0
    if number:
        _die_with(server)
        _import(vllm, before)
    for other in set(files) - {files[number]}:
        os.close(other)
    if not _is_one_thread():  # a fork has none of the other threads, and all of their locks
        sys.exit(1)
    imported = {name: (value, before.get(name)) for name, value in os.environ.items() if before.get(name) != value}
    with socket.socket(fileno=files[number]) as connection, connection.makefile() as orders:
        connection.sendall(b"+")
        for line in orders:
            order = json.loads(line)
            reading, writing = os.pipe()
            if not _fork_orphan():
                break
            os.close(writing)
            with open(reading, "rb") as answer:  # at its end the fork has become the stage, or is dead
                connection.sendall(answer.read() or b"0")
        else:
            sys.exit()
    os.close(reading)
    return _become(run, writing, imported, *order)


def _fork_orphan() -> bool:
    """Fork twice, so that the fork's parent is gone; whether this is the server still."""
    if between := os.fork():
        os.waitpid(between, 0)
        return True
    between, code = os.getpid(), 1
    with suppress(OSError):
        if not os.fork():
            while os.getppid() == between:
                time.sleep(0.001)
            return False
        code = 0
    os._exit(code)


def _become(
    run: int, answer: int, imported: Mapping[str, tuple[str, str | None]],
    words: list[str], environment: dict[str, str], directory: str, log: str,
) -> list[str]:  # fmt: skip
    """Make a fork what its command would be, up to its first line."""
    try:
        _die_with(run)
        os.setpgid(0, 0)
        os.chdir(directory)
        written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(written, 1)
        os.dup2(written, 2)
        os.close(written)
        os.write(answer, str(os.getpid()).encode())
        os.close(answer)
    except OSError:
        os._exit(1)
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


def _find_modules_as_scripts() -> None:
    """In the directory of the scripts in place of the one where the run is: a file `datasets.py` there is not ours."""
    root = Path(__file__).resolve().parents[2]
    if (root / "train.py").is_file() and not sys.flags.safe_path:
        sys.path[0] = str(root)


def _import(modules: Sequence[str], before: dict[str, str]) -> None:
    """Import all; what is not installed is left out.

    What a MODULE:FUNCTION sets in the environment counts as set `before`: stages set it anew, each as it needs it.
    """
    for name in modules:
        module, _, function = name.partition(":")
        with suppress(ImportError):
            imported = importlib.import_module(module)
            if function:
                kept = dict(os.environ)
                getattr(imported, function)()
                before.update(os.environ.items() - kept.items())
    _fork_nothing()


def _fork_nothing() -> None:
    """OpenBLAS ends its threads before a fork, and starts others when it needs them."""
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        os._exit(0)


def _is_one_thread() -> bool:
    return len(os.listdir("/proc/self/task")) == 1


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
