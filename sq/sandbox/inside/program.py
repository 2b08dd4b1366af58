"""The program's own process: its code is run here, and nothing that judges it ever is.

Whatever the program does to this process (patched builtins, closed files, a forged message) changes what it answers and
nothing else: the tests and the values they expect are in another process.
"""

from __future__ import annotations

import gc
import sys
import types
from typing import Any

from sq.sandbox.inside.peer import Peer, describe, reason_of
from sq.sandbox.plain import decode_plain, encode
from sq.sandbox.wire import LONGEST, load, send

NAME = "solution"


def serve(file: int, read: int, write: int, longest: int) -> None:
    """Define what the program defines when first asked, then answer calls until the judge is gone.

    Args:
        file: holds the program and its `__name__`.
        read: where requests come from.
        write: where answers go.
        longest: bytes of the longest message that the judge reads; nothing here depends on it.
    """
    source, name = load(file)
    peer = Peer(read, write, lambda op, target, rest: True, LONGEST)  # arguments are the tests', and may be long
    space: dict[str, Any] = {}

    def start(wanted: list[str]) -> list[Any]:
        """Run the program; what went wrong or None, and those of the wanted names that it defined."""
        try:
            space.update(vars(define(source, name)))
        except BaseException as error:
            return [describe(error), {}]
        return [None, {key: space[key] for key in wanted if key in space}]

    peer.data(start)
    peer.serve()


def call(code: int, tests: int, write: int) -> None:
    """Call a function with each list of arguments and say what it gives; what was expected is not known here.

    Args:
        code: a file that holds the program and its `__name__`.
        tests: a file that holds the function's name and the arguments.
        write: where the results go, a message each, or one that says why there is none.
    """
    job = load(tests)
    try:
        function = vars(define(*load(code)))[job["function"]]
    except BaseException as error:
        missing = isinstance(error, KeyError) and error.args == (job["function"],)
        told = f"{job['function']} is not defined" if missing else reason_of(error)
        send(write, {"failed": told})
        return
    for arguments in job["arguments"]:
        try:
            given = [decode_plain(a) for a in arguments]
            said = {"value": encode(function(*given), lambda v: {"h": [0, type(v).__name__]})}
        except BaseException as error:
            said = {"error": reason_of(error)}
        send(write, said)


def define(source: str, name: str, **given: Any) -> types.ModuleType:
    """Run a program as a module of this name, in which `given` is defined already."""
    gc.enable()  # the template has none, so that forks share its memory
    module = types.ModuleType(name)
    vars(module).update(given)
    sys.modules[name] = module
    exec(compile(source, f"<{name}>", "exec", dont_inherit=True), vars(module))  # this is the sandbox
    return module


def script(file: int) -> int:
    """Run a program as a script on this process's own input and output; its exit code."""
    code = 0
    try:
        define(load(file)[0], "__main__")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc(limit=-3)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    return code & 0xFF
