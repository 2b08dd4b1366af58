"""The program's own process: its code is run here, and nothing that tests it ever is (but `run_unittests`).

Whatever the program does to this process (patched builtins, closed files, a forged message) changes what it answers and
nothing else: the tests and the values they expect are in another process.
"""

from __future__ import annotations

import gc
import sys
import types
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
    try:
        function = vars(define(read_json(code)))[job["function"]]
    except BaseException as error:
        missing = isinstance(error, KeyError) and error.args == (job["function"],)
        send(write, {"failed": f"{job['function']} is not defined" if missing else reason_of(error)})
        return
    for arguments in job["arguments"]:
        try:
            answer = {"value": encode(function(*[decode_plain(a) for a in arguments]), opaque)}
        except BaseException as error:
            answer = {"error": reason_of(error)}
        send(write, answer)


def define(source: str, name: str = "solution", **given: Any) -> types.ModuleType:
    """Run a program as a module of this name, in which `given` is defined already."""
    gc.enable()  # the template has none, so that forks share its memory
    module = types.ModuleType(name)
    vars(module).update(given)
    sys.modules[name] = module
    exec(compile(source, f"<{name}>", "exec", dont_inherit=True), vars(module))  # this is the sandbox
    return module
