"""`unittest` classes (BigCodeBench), which patch, mock and read files, so that they run in the program's own process.

The tests and a nonce arrive only after the program has been defined, and the number of tests that must succeed is
counted elsewhere: leaving early, printing, skipping and raising pass nothing. A program that is written to forge
these tests can, as it shares their process: docs/sandbox.md says what that means for scores.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
from typing import Any

from sq.sandbox.inside.peer import reason_of
from sq.sandbox.inside.program import define
from sq.sandbox.wire import GoneError, load, receive, send

NAME = "__test__"


def run(file: int, requests: int, replies: int, longest: int) -> None:
    """Define the program, then ask for the tests and run them in the same module."""
    import unittest
    import unittest.mock

    try:
        module = define(load(file)[0], NAME, sys=sys, os=os, environ=os.environ)  # as BigCodeBench's own harness does
    except BaseException as error:
        send(replies, {"status": "error", "reason": reason_of(error)})
        return
    send(replies, {"defined": True})
    job = receive(requests)
    space = vars(module)
    space["__builtins__"] = builtins
    suite, succeeded = unittest.TestSuite(), []

    class Result(unittest.TestResult):
        """Counts what succeeded: a test that ended in another way is no success."""

        def addSuccess(self, test: unittest.TestCase) -> None:
            succeeded.append(test)

        def _exc_info_to_string(self, err: Any, test: Any) -> str:
            return reason_of(err[1])

    result = Result()
    try:
        exec(compile(job["tests"], "<tests>", "exec", dont_inherit=True), space)  # this is the sandbox
        for kind in list(space.values()):
            if isinstance(kind, type) and issubclass(kind, unittest.TestCase) and kind.__module__ == NAME:
                suite.addTests(unittest.TestLoader().loadTestsFromTestCase(kind))
        sys.stdout = sys.stderr = io.StringIO()
        suite.run(result)
    except BaseException as error:
        send(replies, {"status": "failed", "reason": reason_of(error)})
        return
    for test, reason in [*result.errors, *result.failures][:1]:
        send(replies, {"status": "failed", "reason": f"{test}: {reason}"[:300]})
        return
    # A skip counts where the tests themselves speak of it: a program may raise SkipTest too.
    skipped = len(result.skipped) if "skip" in job["tests"].lower() else 0
    passed = len(succeeded) + len(result.expectedFailures) + skipped
    send(replies, {"status": "passed", "passed": passed, "nonce": job["nonce"]})


def judge(job: dict[str, Any], replies: int, requests: int, longest: int) -> dict[str, Any]:
    """In another process: hand the tests over when the program is defined, and judge what comes back."""
    nonce = os.urandom(16).hex()
    failed = {"status": "error", "reason": "the program ended before the tests did", "passed": [False]}
    try:
        answer = receive(replies, longest)
        if not (isinstance(answer, dict) and answer.get("defined")):
            return failed | {"reason": str(answer.get("reason") if isinstance(answer, dict) else answer)[:300]}
        send(requests, {"tests": job["tests"], "nonce": nonce})
        answer = receive(replies, longest)
    except GoneError:
        return failed
    if isinstance(answer, dict) and answer.get("status") == "failed":
        return failed | {"status": "failed", "reason": str(answer.get("reason"))[:300]}
    if not isinstance(answer, dict) or answer.get("nonce") != nonce or answer.get("status") != "passed":
        return failed | {"reason": "the answer is not the tests' own"}
    if answer.get("passed") != job["count"]:
        return failed | {"status": "failed", "reason": f"{answer.get('passed')} of {job['count']} tests were passed"}
    return {"status": "passed", "reason": "", "passed": [True]}
