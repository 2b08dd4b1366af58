"""The program's own process: its code is run here, and nothing that tests it ever is (but `run_unittests`).

Whatever the program does to this process (patched builtins, closed files, a forged message) changes what it answers and
nothing else: the tests and the values they expect are in another process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import types
from collections.abc import Mapping
from typing import Any

from sq.sandbox.inside.remote_calls import Peer, describe, reason_of
from sq.sandbox.messages import LONGEST, read_json, send
from sq.sandbox.plain_values import decode_plain, encode, opaque


def serve(file: int, read: int, write: int, longest: int) -> None:
    """Define what a program in a file defines when first asked, then answer calls until the tests' process is gone."""
    source = read_json(file)
    peer = Peer(read, write, lambda op, target, rest: True, LONGEST)  # arguments are the tests', and may be long

    def start(wanted: list[str]) -> list[Any]:
        """Run the program; what went wrong or None, and those of the wanted names that it defined."""
        try:
            space = vars(define(source))
        except BaseException as error:
            return [describe(error), {}]
        return [None, {key: space[key] for key in wanted if key in space}]

    peer.to_data(start)
    peer.serve()


def call(code: int, tests: int, write: int) -> None:
    """Call a function with each list of arguments and send what it gives; what is expected is not known here."""
    job = read_json(tests)
    owner, _, name = job["function"].rpartition(".")
    try:
        space = vars(define(read_json(code), given=_prelude(job["prelude"])))
        if owner in space:
            space = {name: getattr(space[owner](), name)}
        if name not in space:
            send(write, {"failed": f"{name} is not defined"})
            return
        function = space[name]
    except BaseException as error:
        send(write, {"failed": reason_of(error)})
        return
    for arguments in job["arguments"]:
        try:
            answer = {"value": encode(function(*[decode_plain(a) for a in arguments]), opaque)}
        except BaseException as error:
            answer = {"error": reason_of(error)}
        send(write, answer)


def script(code: int, text: int, output: int, report: int) -> None:
    """Run a whole program between a file that it reads and a line that it prints on; say why it ended if it raised."""
    job = read_json(code)
    os.lseek(text, 0, os.SEEK_SET)
    for fd, target in ((text, 0), (output, 1)):
        os.dup2(fd, target)
        os.close(fd)
    sys.stdin = open(0, encoding="utf-8", errors="replace")
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace")
    sys.argv = ["solution.py"]
    try:
        with contextlib.suppress(SystemExit):
            define(job["source"], "__main__", _prelude(job["prelude"]))
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()  # waits for threads, as Python does at its end
        atexit._run_exitfuncs()
        if not sys.stdout.closed:
            sys.stdout.flush()
    except BaseException as error:
        send(report, {"failed": reason_of(error)})


def _prelude(source: str) -> dict[str, Any]:
    """What trusted code defines."""
    space: dict[str, Any] = {}
    exec(compile(source, "<prelude>", "exec", dont_inherit=True), space)
    del space["__builtins__"]
    return space


def define(source: str, name: str = "solution", given: Mapping[str, Any] | None = None) -> types.ModuleType:
    """Run a program as a module of this name, in which `given` is defined already."""
    gc.enable()  # the template has none, so that forks share its memory
    module = types.ModuleType(name)
    vars(module).update(given or {})
    sys.modules[name] = module
    exec(compile(source, f"<{name}>", "exec", dont_inherit=True), vars(module))  # this is the sandbox
    return module
