"""What the sandbox is asked and what it answers: a program with tests of one of four kinds, and an outcome.

Which tests are safe from forgery: `Calls`, `Script` and `Asserts` are judged in another process than the program's
(`Calls` and `Script` by their owner, who alone knows what is expected). `Unittests` share the program's process; see
docs/sandbox.md for what that leaves open.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sq.sandbox import plain


class ProgramStatus(StrEnum):
    """How a program ended."""

    PASSED = "passed"
    FAILED = "failed"
    """A test was not passed."""
    CALLED = "called"
    """It ran, and nothing was expected of it."""
    ERROR = "error"
    """It does not parse, raised while it was defined, left early, or lacks the function that is tested."""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    CRASHED = "crashed"
    """It was ended by a signal, as by a fault in C."""
    INVALID = "invalid"
    """The tests themselves cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Asserts:
    """Tests as code: each text is run in one shared namespace and passes unless it raises.

    Names that neither the tests nor `context` define are the program's.

    Attributes:
        tests: statements, in order.
        entry: names the program must define; they are its own even where `context` defines them too.
        context: trusted code that comes first, such as a benchmark's prompt with the helpers it gives.
        setup: code run after the program's names are bound (MBPP's `test_setup_code`).
        every: go on after a test that fails, so that the outcome tells about each.
    """

    tests: Sequence[str]
    entry: Sequence[str] = ()
    context: str = ""
    setup: str = ""
    every: bool = False


@dataclass(frozen=True, kw_only=True)
class Calls:
    """A function, lists of arguments, and what it must give for each; plain values. Without `expected` only called.

    Lists and tuples are the same here, and floats are equal within 1e-6, relative.
    """

    function: str
    arguments: Sequence[Sequence[Any]]
    expected: Sequence[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Script:
    """Inputs, and what the program must print for each: equal line by line, but for spaces at ends of lines."""

    inputs: Sequence[str]
    expected: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Unittests:
    """`unittest.TestCase` classes as code, run in the program's own module (BigCodeBench)."""

    tests: str


@dataclass(frozen=True, kw_only=True)
class Program:
    """Source code and its tests.

    Attributes:
        source: the program.
        tests: of one of the four kinds.
        name: its `__name__`; `__main__` would run what stands under `if __name__ == "__main__"`.
        wall_seconds: a shorter time than the sandbox's setting.
    """

    source: str
    tests: Asserts | Calls | Script | Unittests
    name: str = "solution"
    wall_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Raised:
    """In place of a value: the call raised, or was ended; it equals nothing, not even itself, but has a key."""

    error: str

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class ProgramResult:
    """What came of a program.

    Attributes:
        status: how it ended.
        reason: why, in a line; empty where it passed.
        passed: by test, call or input; empty where nothing was decided.
        values: of calls, what they gave (`Raised` where they did not); of inputs, what was printed.
        cpu_seconds: processor time, of program and judge together.
        wall_seconds: time in all.
    """

    status: ProgramStatus
    reason: str = ""
    passed: tuple[bool, ...] = ()
    values: tuple[Any, ...] = ()
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every test was passed."""
        return self.status is ProgramStatus.PASSED

    @property
    def keys(self) -> tuple[str | None, ...]:
        """A text for each value, the same where values are equal, for voting; None where there is no value."""
        return tuple(None if isinstance(v, Raised) else plain.key(v) for v in self.values)


def same(found: Any, expected: Any) -> bool:
    """Whether two plain values are equal: lists as tuples, floats within 1e-6."""
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(same(f, e) for f, e in zip(found, expected, strict=True))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(v, expected[k]) for k, v in found.items())
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, float) or isinstance(expected, float):
        if not (isinstance(found, int | float) and isinstance(expected, int | float)):
            return bool(found == expected)
        if found != found or expected != expected:
            return found != found and expected != expected
        try:
            return math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9)
        except OverflowError:
            return False
    return bool(found == expected)


def same_text(found: str, expected: str) -> bool:
    """Whether two outputs are equal, but for spaces at the ends of lines and empty lines at the end."""
    return [line.rstrip() for line in found.rstrip().splitlines()] == [
        line.rstrip() for line in expected.rstrip().splitlines()
    ]


def unittests_in(text: str) -> int:
    """How many tests a text of `unittest` classes has, by its syntax; -1 where it does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return -1
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return sum(isinstance(n, kinds) and n.name.startswith("test") for c in classes for n in c.body)
