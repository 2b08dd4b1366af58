"""Tests that cannot leave the program's process (unittest with patches, BigCodeBench): guarded, not proof.

The tests and the nonce arrive only after the program has been defined; modules it could have tampered with are put
back; leaving early, by any exit, is a failure; the number of tests that must run was counted beforehand, elsewhere; an
answer of a class of the program's own with an `__eq__` of its own is refused. A program that was *written* to read its
process's memory could still forge a verdict: `docs/sandbox.md` says so.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
import types
from typing import Any

from sq.sandbox.inside.peer import reason_of
from sq.sandbox.inside.program import define
from sq.sandbox.wire import GoneError, load, receive, send

NAME = "__test__"
_WATCHED = ("unittest", "unittest.case", "unittest.loader", "unittest.suite", "unittest.result", "unittest.mock", "os")


def run(file: int, requests: int, replies: int, longest: int) -> None:
    """Define the program, then ask for the tests and run them in the same module."""
    import unittest
    import unittest.mock

    before = {name: dict(vars(sys.modules[name])) for name in _WATCHED}
    builtin, modules = dict(vars(builtins)), {name: sys.modules[name] for name in _WATCHED}
    case, loader, text_result = unittest.TestCase, unittest.TestLoader, unittest.TestResult
    methods: dict[type, dict[str, Any]] = {
        kind: dict(vars(kind)) for kind in (case, loader, text_result, unittest.TestSuite)
    }
    try:
        module = define(load(file)[0], NAME, sys=sys, os=os, environ=os.environ)  # as BigCodeBench's own harness does
    except BaseException as error:
        send(replies, {"status": "error", "reason": reason_of(error)})
        return
    send(replies, {"defined": True})
    given = receive(requests)
    entry = given["entry"]
    _put_back(before, modules, builtin, methods)
    sys.settrace(None)
    sys.setprofile(None)
    if entry in vars(module):
        setattr(module, entry, _guarded(vars(module)[entry]))
    found = text_result()
    try:
        exec(compile(given["tests"], "<tests>", "exec", dont_inherit=True), vars(module))  # this is the sandbox
        suite = unittest.TestSuite(
            loader().loadTestsFromTestCase(kind)
            for kind in list(vars(module).values())
            if isinstance(kind, type) and issubclass(kind, case) and kind.__module__ == NAME
        )
        sys.stdout = sys.stderr = io.StringIO()
        suite.run(found)
    except BaseException as error:
        send(replies, {"status": "failed", "reason": reason_of(error), "nonce": given["nonce"]})
        return
    bad = [*found.errors, *found.failures, *((test, "passed unexpectedly") for test in found.unexpectedSuccesses)]
    told = f"{bad[0][0]}: {bad[0][1].strip().splitlines()[-1]}"[:300] if bad else ""
    status = "failed" if bad else "passed"
    send(replies, {"status": status, "reason": told, "ran": found.testsRun, "nonce": given["nonce"]})


def judge(job: dict[str, Any], replies: int, requests: int, longest: int) -> dict[str, Any]:
    """In the judge's process: hand the tests over when the program is defined, and judge what comes back."""
    nonce = os.urandom(16).hex()
    failed = {"status": "error", "reason": "the program ended before the tests did", "passed": [False]}
    try:
        said = receive(replies, longest)
        if not (isinstance(said, dict) and said.get("defined")):
            return failed | {"reason": str(said.get("reason") if isinstance(said, dict) else said)[:300]}
        send(requests, {"tests": job["tests"], "entry": job["entry"], "nonce": nonce})
        said = receive(replies, longest)
    except GoneError:
        return failed
    if not isinstance(said, dict) or said.get("nonce") != nonce:
        return failed | {"reason": "the verdict is not the tests' own"}
    if said.get("status") != "passed":
        return failed | {"status": "failed", "reason": str(said.get("reason"))[:300]}
    if said.get("ran") != job["count"]:
        return failed | {"status": "failed", "reason": f"{said.get('ran')} of {job['count']} tests ran"}
    return {"status": "passed", "reason": "", "passed": [True]}


def _put_back(
    before: dict[str, dict[str, Any]],
    modules: dict[str, types.ModuleType],
    builtin: dict[str, Any],
    methods: dict[type, dict[str, Any]],
) -> None:
    spaces = [(vars(builtins), builtin), *((vars(modules[name]), held) for name, held in before.items())]
    for space, held in spaces:
        space.update(held)  # before anything is taken out, as this very loop needs its builtins
        for name in [n for n in space if n not in held]:
            del space[name]
    sys.modules.update(modules)
    for kind, held in methods.items():
        for name in [n for n in vars(kind) if n not in held]:
            delattr(kind, name)
        for name, value in held.items():
            if vars(kind).get(name) is not value:
                setattr(kind, name, value)


def _guarded(entry: Any) -> Any:
    """The function, whose answers must not be of a class of the program's own that says itself what it equals."""
    if not isinstance(entry, types.FunctionType):
        return entry

    def guarded(*arguments: Any, **named: Any) -> Any:
        answer = entry(*arguments, **named)
        kind = type(answer)
        if kind.__module__ == NAME and "__eq__" in vars(kind):
            raise TypeError(f"the answer is a {kind.__name__}, which says itself what it equals")
        return answer

    guarded.__name__, guarded.__doc__, guarded.__wrapped__ = entry.__name__, entry.__doc__, entry  # type: ignore[attr-defined]
    return guarded
