"""What the sandbox is asked and what it answers: a program with tests of one of four kinds, and a result.

Safe from forgery: `Asserts` are run in another process than the program's, `Calls` and `Cases` are compared by their
owner, who alone knows what is expected. `Unittests` share the program's process; docs/sandbox.md says what that means.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sq.sandbox.plain_values import value_key


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
        tests: statements, in order; what comes after one that fails is not run.
        entry: names the program must define; they are its own even where `context` defines them too.
        context: trusted code that comes first, such as a benchmark's prompt with the helpers it gives.
        setup: code run after the program's names are bound (MBPP's `test_setup_code`).
    """

    tests: Sequence[str]
    entry: Sequence[str] = ()
    context: str = ""
    setup: str = ""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """A function, lists of arguments, and what it must give for each; plain values. Without `expected` only called.

    Lists and tuples are the same here, and floats are equal within 1e-6, relative.
    """

    function: str
    """Its name; `Solution.name` is a method of an object of that class, or a function where there is no such class."""
    arguments: Sequence[Sequence[Any]]
    expected: Sequence[Any] | None = None
    prelude: str = ""
    """Trusted code that comes before the program."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """A whole program, run with a text on its standard input; the only value is what it prints."""

    input: str
    prelude: str = ""


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Inputs and outputs, each case in a process of its own with all of the limits; compared as LiveCodeBench does.

    Attributes:
        inputs: texts for standard input; with a function, its arguments as JSON, one a line.
        outputs: what must be printed; with a function, what it must give, as JSON.
        function: as that of `Calls`; empty where the program is a script.
        prelude: trusted code that comes before the program.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    function: str = ""
    prelude: str = ""


@dataclass(frozen=True, kw_only=True)
class Unittests:
    """`unittest.TestCase` classes as code, run in the program's own module (BigCodeBench)."""

    tests: str


@dataclass(frozen=True, kw_only=True)
class Program:
    """Source code and its tests."""

    source: str
    tests: Asserts | Calls | Cases | Script | Unittests


@dataclass(frozen=True, kw_only=True)
class Raised:
    """In place of a value: the call raised, or was ended; it equals nothing, not even itself, and has no key."""

    error: str

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class ProgramResult:
    """What came of a program: how it ended, and why in a line where it did not pass."""

    status: ProgramStatus
    reason: str = ""
    passed: tuple[bool, ...] = ()
    """By test or call; empty where nothing was decided."""
    values: tuple[Any, ...] = ()
    """What calls gave, or a script printed; `Raised` where that is nothing."""

    @property
    def ok(self) -> bool:
        """Whether every test was passed."""
        return self.status is ProgramStatus.PASSED

    @property
    def keys(self) -> tuple[str | None, ...]:
        """A text for each value, the same where values are equal, for voting; None where there is no plain value."""
        return tuple(None if isinstance(v, Raised) else value_key(v) for v in self.values)


def equal_values(value: Any, expected: Any) -> bool:
    """Whether two plain values are equal: lists as tuples, floats within 1e-6."""
    if isinstance(value, list | tuple) and isinstance(expected, list | tuple):
        return len(value) == len(expected) and all(map(equal_values, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(equal_values(v, expected[k]) for k, v in value.items())
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    numbers = isinstance(value, int | float) and isinstance(expected, int | float)
    if not numbers or not (isinstance(value, float) or isinstance(expected, float)):
        return same_value(value, expected)
    if value != value or expected != expected:
        return bool(value != value and expected != expected)
    try:
        return math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-9)
    except OverflowError:
        return False


def same_value(value: Any, expected: Any) -> bool:
    """Whether two plain values are equal by Python's `==`; what cannot be compared (sNaN) equals nothing."""
    try:
        return bool(value == expected)
    except ArithmeticError:
        return False


def count_unittests(text: str) -> int:
    """How many tests a text of `unittest` classes has, by its syntax; -1 where it does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return -1
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return sum(isinstance(n, kinds) and n.name.startswith("test") for c in classes for n in c.body)
