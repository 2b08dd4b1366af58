"""The judge's own process: tests run here, on values that the program's process sent as plain data.

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

from sq.sandbox.inside.peer import EndedError, Peer, reason_of

NAME = "tests"
_SILENT_END = "the program ended before the tests did"


def check(job: dict[str, Any], read: int, write: int, longest: int) -> dict[str, Any]:
    """The outcome of every test of a job: `status`, `reason`, and by test `passed`."""
    peer = Peer(read, write, _allowed, longest)
    try:
        return _asserts(job, peer)
    except EndedError as ended:
        return {"status": "error", "reason": f"{_SILENT_END} ({ended})"}


def _asserts(job: dict[str, Any], peer: Peer) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": NAME}
    sys.modules[NAME] = module = types.ModuleType(NAME)
    module.__dict__.update(space)
    space = module.__dict__
    try:
        if job["context"]:
            exec(compile(job["context"], "<context>", "exec", dont_inherit=True), space)  # this is the sandbox
        setup = compile(job["setup"], "<setup>", "exec", dont_inherit=True)
        tests = [compile(test, "<test>", "exec", dont_inherit=True) for test in job["tests"]]
    except BaseException as error:
        return {"status": "invalid", "reason": f"the tests cannot be used: {reason_of(error)}"}
    own = set(space) - set(job["entry"])
    wanted = {name for code in (setup, *tests) for name in _names(code)} - own - _BUILTIN | set(job["entry"])
    problem = _start(peer, sorted(wanted), space, job["entry"])
    if problem:
        return {"status": "error", "reason": problem}
    try:
        exec(setup, space)
    except BaseException as error:
        return {"status": "error", "reason": peer.ended or f"in the set-up of the tests, {reason_of(error)}"}
    return _judged(tests, space, peer, all_of_them=job["all"])


def _judged(tests: list[types.CodeType], space: dict[str, Any], peer: Peer, *, all_of_them: bool) -> dict[str, Any]:
    passed: list[bool] = []
    reasons: list[str] = []
    for test in tests:
        try:
            exec(test, space)
            passed.append(not peer.ended)
        except BaseException as error:
            passed.append(False)
            reasons.append(f"{_SILENT_END} ({peer.ended})" if peer.ended else f"test {len(passed)}: {reason_of(error)}")
        if peer.ended or not (passed[-1] or all_of_them):
            break
    passed += [False] * (len(tests) - len(passed))
    reasons += [_SILENT_END] if peer.ended and not reasons else []
    status = "passed" if all(passed) else "error" if peer.ended else "failed"
    return {"status": status, "reason": reasons[0] if reasons else "", "passed": passed}


def _start(peer: Peer, wanted: list[str], space: dict[str, Any], entry: list[str]) -> str:
    """Have the program run and bind what it defined; what went wrong, or nothing."""
    answer = peer.first()(wanted)
    if type(answer) is not list or len(answer) != 2 or type(answer[1]) is not dict:
        return _SILENT_END
    problem, found = answer
    if problem is not None:
        kinds = problem.get("types") if type(problem) is dict else None
        text = str(problem.get("text", "")) if type(problem) is dict else ""
        return f"{kinds[0] if type(kinds) is list and kinds else 'error'}: {text}".replace("\n", " ")[:300]
    space.update({name: value for name, value in found.items() if name in wanted})
    missing = [name for name in entry if name not in found]
    return f"{', '.join(missing)} is not defined" if missing else ""


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


_BUILTIN = set(vars(builtins))
_CALLABLE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)
_LOOKED_INTO = ("iter", "next", "len", "bool", "str", "getitem")
_NEVER = {
    kind for name in ("eval", "exec", "compile", "open", "getattr", "globals", "locals", "vars", "dir", "breakpoint")
    if (kind := getattr(builtins, name, None))
}  # fmt: skip


def _allowed(op: str, target: Any, rest: list[Any]) -> bool:
    """What the program may ask of an object that a test handed to it: to call a function, to read a test's class."""
    if op == "call":
        return isinstance(target, _CALLABLE) and not any(target is never for never in _NEVER)
    if op in ("getattr", "setattr"):
        name = rest[0] if rest else ""
        return type(target).__module__ == NAME and isinstance(name, str) and not name.startswith("_")
    return op in _LOOKED_INTO
