"""Tests that cannot leave the program's process (unittest with patches, BigCodeBench): guarded, not proof.

The tests and the nonce arrive only after the program has been defined; what tests are made of is put back then and
watched from then on (`watch`); every failure is told at once, so that none can be taken back; a test counts when it
succeeded, and the number that must was counted beforehand, elsewhere; leaving early, by any exit, is a failure. A
program that was *written* to read this process's memory could still forge a verdict: `docs/sandbox.md` says so.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
from collections.abc import Iterable
from typing import Any

from sq.sandbox.inside.peer import reason_of
from sq.sandbox.inside.program import define
from sq.sandbox.inside.watch import Watch, guarded
from sq.sandbox.wire import GoneError, load, receive, send

NAME = "__test__"
_SKIPS = ("skipTest", "SkipTest")


def run(file: int, requests: int, replies: int, longest: int) -> None:
    """Define the program, then ask for the tests and run them in the same module."""
    import unittest
    import unittest.mock

    watch, case, suite = Watch(), unittest.TestCase, unittest.TestSuite()
    try:
        module = define(load(file)[0], NAME, sys=sys, os=os, environ=os.environ)  # as BigCodeBench's own harness does
    except BaseException as error:
        send(replies, {"status": "error", "reason": reason_of(error)})
        return
    send(replies, {"defined": True})
    given = receive(requests)
    watch.put_back()
    sys.settrace(None)
    sys.setprofile(None)
    vars(unittest.case)["_ShouldStop"] = ()  # nothing is one: raised by a program, it would end a test as a success
    space = vars(module)
    space["__builtins__"] = builtins
    found: Any = type("Result", (ReportingResult, unittest.TestResult), {})()
    found.watch, found.replies, found.outcome = watch, replies, vars(unittest.case)["_Outcome"]
    if given["entry"] in space:
        space[given["entry"]] = guarded(space[given["entry"]], found.changed, NAME)
    try:
        exec(compile(given["tests"], "<tests>", "exec", dont_inherit=True), space)  # this is the sandbox
        kinds = [
            k for k in list(space.values()) if isinstance(k, type) and issubclass(k, case) and k.__module__ == NAME
        ]
        watch.fix(kinds)
        for kind in kinds:
            suite.addTests(unittest.TestLoader().loadTestsFromTestCase(kind))
        found.expect(suite)
        sys.stdout = sys.stderr = io.StringIO()
        suite.run(found)
    except BaseException as error:
        send(replies, {"status": "failed", "reason": reason_of(error)})
        return
    send(replies, {"status": "passed", "reason": "", "ran": found.good, "nonce": given["nonce"]})


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
    if isinstance(said, dict) and said.get("status") == "failed":  # the first failure; what comes after it is not read
        return failed | {"status": "failed", "reason": str(said.get("reason"))[:300]}
    if not isinstance(said, dict) or said.get("nonce") != nonce or said.get("status") != "passed":
        return failed | {"reason": "the verdict is not the tests' own"}
    if said.get("ran") != job["count"]:
        return failed | {"status": "failed", "reason": f"{said.get('ran')} of {job['count']} tests were passed"}
    return {"status": "passed", "reason": "", "passed": [True]}


class ReportingResult:
    """A result that tells a failure the moment it comes, and counts what succeeded with nothing changed.

    A `unittest.TestResult` too; that class is not known here, as most workers never load it.
    """

    watch: Watch
    replies: int
    outcome: Any
    good = 0
    test: Any = None

    def expect(self, tests: Iterable[Any]) -> None:
        """Note what the tests say themselves: which may be skipped, and which must fail."""
        methods = [(test, getattr(test, test._testMethodName)) for test in tests]
        self.may_skip = {test.id() for test, method in methods if _may_skip(test, method)}
        self.may_fail = {t.id() for t, method in methods if _marked("__unittest_expecting_failure__", t, method)}

    def changed(self) -> bool:
        """Whether the program changed what tests are made of; that is told at once."""
        test: Any = self.test
        outcome: Any = getattr(test, "_outcome", None)
        ours = not any(callable(v) and hasattr(ReportingResult, n) and n not in _HELD for n, v in vars(self).items())
        plain = test is None or not any(callable(v) and hasattr(type(test), n) for n, v in vars(test).items())
        kept = outcome is None or (type(outcome) is self.outcome and outcome.result is self)
        if kept and outcome is not None and test.id() not in self.may_fail:
            kept = not outcome.expecting_failure and outcome.expectedFailure is None
        if ours and plain and kept and not self.watch.changed():
            return False
        self.bad("it changed what its tests are made of")
        return True

    def startTest(self, test: Any) -> None:
        self.test = test

    def stopTest(self, test: Any) -> None:
        self.test = None

    def addSuccess(self, test: Any) -> None:
        self.good += not self.changed()

    def addError(self, test: Any, err: Any) -> None:
        self.bad(f"{test}: {reason_of(err[1])}")

    addFailure = addError

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self.addError(subtest, err)

    def addSkip(self, test: Any, reason: str) -> None:
        if test.id() in self.may_skip:
            self.good += 1
        else:
            self.bad(f"{test}: skipped while it ran: {reason}")

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        if test.id() in self.may_fail:
            self.addSuccess(test)
        else:
            self.addError(test, err)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self.bad(f"{test}: passed unexpectedly")

    def bad(self, reason: str) -> None:
        """Tell the judge that it is over."""
        send(self.replies, {"status": "failed", "reason": reason[:300]})


_HELD = ("watch", "test", "outcome")
"""What a result holds that can be called and is no method."""


def _may_skip(test: Any, method: Any) -> bool:
    """Whether a test says that it may be skipped: by a decorator, or by a call in it or in its `setUp`."""
    names = {n for m in (method, test.setUp) for n in getattr(getattr(m, "__code__", None), "co_names", ())}
    return _marked("__unittest_skip__", test, method) or not names.isdisjoint(_SKIPS)


def _marked(mark: str, test: Any, method: Any) -> bool:
    return bool(getattr(method, mark, False) or getattr(type(test), mark, False))
