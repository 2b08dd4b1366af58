"""The tests' own process: asserts run here, on values that the program's process sent as plain data.

A test is ordinary code (`assert f(2) == 4`). Names of it that nobody but the program defines are bound to what the
program made: plain values, or `Remote` objects whose calls go over the line. The program's code never runs here, so
there is nothing it could patch, and no expected value it could find.
"""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Iterator
from typing import Any

from sq.sandbox.inside.remote_calls import EndedError, Peer, reason_of

NAME = "tests"
_ENDED_EARLY = "the program ended before the tests did"


def run_tests(job: dict[str, Any], read: int, write: int, longest: int) -> dict[str, Any]:
    """The report on every test of a job: `status`, `reason`, and by test `passed`."""
    peer = Peer(read, write, _allowed, longest)
    try:
        return _run(job, peer)
    except EndedError as ended:
        return {"status": "error", "reason": f"{_ENDED_EARLY} ({ended})"}


def _run(job: dict[str, Any], peer: Peer) -> dict[str, Any]:
    sys.modules[NAME] = module = types.ModuleType(NAME)
    space = vars(module)
    try:
        if job["context"]:
            exec(compile(job["context"], "<context>", "exec", dont_inherit=True), space)  # this is the sandbox
        setup = compile(job["setup"], "<setup>", "exec", dont_inherit=True)
        tests = [compile(test, "<test>", "exec", dont_inherit=True) for test in job["tests"]]
    except BaseException as error:
        return {"status": "invalid", "reason": f"the tests cannot be used: {reason_of(error)}"}
    own = set(space) - set(job["entry"])
    wanted = {name for code in (setup, *tests) for name in _names(code)} - own - _BUILTIN | set(job["entry"])
    problem = _start_program(peer, sorted(wanted), space, job["entry"])
    if problem:
        return {"status": "error", "reason": problem}
    try:
        exec(setup, space)
    except BaseException as error:
        return {"status": "error", "reason": peer.ended or f"in the set-up of the tests, {reason_of(error)}"}
    return _run_each(tests, space, peer)


def _run_each(tests: list[types.CodeType], space: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """Run the tests up to the first that fails."""
    status, reason, number = "passed", "", 0
    for test in tests:
        try:
            exec(test, space)
        except BaseException as error:
            status, reason = "failed", f"test {number + 1}: {reason_of(error)}"
        if peer.ended:
            status, reason = "error", f"{_ENDED_EARLY} ({peer.ended})"
        if status != "passed":
            break
        number += 1
    return {"status": status, "reason": reason, "passed": [True] * number + [False] * (len(tests) - number)}


def _start_program(peer: Peer, wanted: list[str], space: dict[str, Any], entry: list[str]) -> str:
    """Have the program run and bind what it defined; what went wrong, or nothing."""
    answer = peer.first()(wanted)
    if type(answer) is not list or len(answer) != 2 or type(answer[1]) is not dict:
        return _ENDED_EARLY
    problem, defined = answer
    if problem is not None:
        kinds = problem.get("types") if type(problem) is dict else None
        text = str(problem.get("text", "")) if type(problem) is dict else ""
        return f"{kinds[0] if type(kinds) is list and kinds else 'error'}: {text}".replace("\n", " ")[:300]
    space.update({name: value for name, value in defined.items() if name in wanted})
    missing = [name for name in entry if name not in defined]
    return f"{', '.join(missing)} is not defined" if missing else ""


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


_BUILTIN = set(vars(builtins))
_CALLABLE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)
_READING = ("iter", "next", "len", "bool", "str", "getitem")
_NEVER = (eval, exec, compile, open, getattr, globals, locals, vars, dir, breakpoint)


def _allowed(op: str, target: Any, rest: list[Any]) -> bool:
    """What the program may ask of an object that a test handed to it: to call a function, to read a test's class."""
    if op == "call":
        return isinstance(target, _CALLABLE) and not any(target is never for never in _NEVER)
    if op in ("getattr", "setattr"):
        name = rest[0] if rest else ""
        return type(target).__module__ == NAME and isinstance(name, str) and not name.startswith("_")
    return op in _READING
