"""Cases of input and output, compared as LiveCodeBench compares them (arXiv 2403.07974; its `testing_util.py`).

What is printed is compared line by line without the space around it; lines that differ are equal where both are numbers
of the same exact values (`1.0` and `1`). What a function gives must be equal by Python's `==`, but that a tuple may
stand for a list.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sq.sandbox.programs import Calls, Cases, ProgramResult, ProgramStatus, Script, same_value

_LONGEST = 60


def run_cases(cases: Cases, run: Callable[[Calls | Script], ProgramResult]) -> ProgramResult:
    """Run the cases, each by `run`, up to the first that is not passed."""
    total = len(cases.inputs)
    for number, (given, expected) in enumerate(zip(cases.inputs, cases.outputs, strict=True)):
        test: Calls | Script = Script(input=given, prelude=cases.prelude)
        if cases.function:
            test = Calls(function=cases.function, arguments=[arguments_of(given)], prelude=cases.prelude)
        result = run(test)
        status, reason = result.status, result.reason
        if status is ProgramStatus.CALLED:
            reason = (value_differs if cases.function else output_differs)(result.values[0], expected)
            status = ProgramStatus.FAILED if reason else ProgramStatus.PASSED
        if status is not ProgramStatus.PASSED:
            passed = (*[True] * number, *[False] * (total - number))
            return ProgramResult(status=status, reason=f"test {number + 1} of {total}: {reason}", passed=passed)
    return ProgramResult(status=ProgramStatus.PASSED, passed=(True,) * total)


def arguments_of(text: str) -> list[Any]:
    """The arguments of a call: JSON, one a line."""
    return [json.loads(line) for line in text.split("\n")]


def value_differs(value: Any, expected: str) -> str:
    """Why a value is not the one expected; empty where it is."""
    value, wanted = list(value) if isinstance(value, tuple) else value, json.loads(expected)
    return "" if same_value(value, wanted) else f"gives {_short(value)}, and {_short(wanted)} is expected"


def output_differs(output: str, expected: str) -> str:
    """Why what was printed is not what is expected; empty where it is."""
    lines, wanted = ([line.strip() for line in text.strip().split("\n")] for text in (output, expected))
    if len(lines) != len(wanted):
        return f"prints {len(lines)} lines, and {len(wanted)} are expected"
    for number, (line, want) in enumerate(zip(lines, wanted, strict=True), 1):
        if line != want and not _same_numbers(line, want):
            return f"line {number} is {_short(line)}, and {_short(want)} is expected"
    return ""


def _same_numbers(one: str, other: str) -> bool:
    try:
        return [Decimal(word) for word in one.split()] == [Decimal(word) for word in other.split()]
    except ArithmeticError:  # no numbers, or one that equals nothing
        return False


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python writes
        text = f"a long {type(value).__name__}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
