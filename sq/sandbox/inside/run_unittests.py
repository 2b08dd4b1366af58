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

from sq.sandbox.inside.remote_calls import reason_of
from sq.sandbox.inside.run_program import define
from sq.sandbox.messages import DisconnectedError, read_json, receive, send

NAME = "__test__"


def run(file: int, requests: int, replies: int, longest: int) -> None:
    """Define the program, then ask for the tests and run them in the same module."""
    import unittest
    import unittest.mock

    try:
        module = define(
            read_json(file), NAME, {"sys": sys, "os": os, "environ": os.environ}
        )  # as BigCodeBench's harness does
    except BaseException as error:
        send(replies, {"status": "error", "reason": reason_of(error)})
        return
    send(replies, {"status": "defined"})
    job = receive(requests)
    space = vars(module)
    space["__builtins__"] = builtins
    succeeded = []

    class Result(unittest.TestResult):
        """Counts what succeeded: a test that ended in another way is no success."""

        def addSuccess(self, test: unittest.TestCase) -> None:
            succeeded.append(test)

        def _exc_info_to_string(self, err: Any, test: Any) -> str:
            return reason_of(err[1])

    result, suite = Result(), unittest.TestSuite()
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


def check(job: dict[str, Any], replies: int, requests: int, longest: int) -> dict[str, Any]:
    """In another process: hand the tests over when the program is defined, and report what comes back."""
    nonce = os.urandom(16).hex()
    report = {"status": "error", "reason": "the program ended before the tests did", "passed": [False]}
    try:
        answer = receive(replies, longest)
        if answer.get("status") == "defined":
            send(requests, {"tests": job["tests"], "nonce": nonce})
            answer = receive(replies, longest)
            if answer.get("status") == "failed":
                return report | {"status": "failed", "reason": str(answer.get("reason"))[:300]}
            if answer.get("status") == "passed" and answer.get("nonce") == nonce:
                number, count = answer.get("passed"), job["count"]
                if number == count:
                    return {"status": "passed", "reason": "", "passed": [True]}
                return report | {"status": "failed", "reason": f"{number} of {count} tests were passed"}
    except DisconnectedError:
        return report
    return report | {"reason": str(answer.get("reason", "the answer is not the tests' own"))[:300]}
