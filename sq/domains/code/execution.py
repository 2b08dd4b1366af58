"""Programs on trial: run in the sandbox against tests, or on common calls to see which of them do the same.

A reference is text: a JSON object of a function and its calls, `{"function": "f", "calls": [[[1, 2], 3], ...]}`, or the
assert statements of a benchmark.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sq.core.config import flatten
from sq.core.files import code_version
from sq.domains.base import AnswerGroups
from sq.domains.code.blocks import parse
from sq.domains.code.extract import asserted, normal, without_tests
from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Asserts, Calls, Program, ProgramResult

MAX_CALLS = 40
"""Calls that a vote is taken on."""


def checker_version(config: SandboxConfig) -> str:
    """A digest of what decides whether a program passes: this code, the sandbox's, the limits, the Python that runs."""
    package = Path(__file__).parents[2]
    files = [file for pattern in ("domains/code/*.py", "sandbox/**/*.py") for file in package.glob(pattern)]
    settings = {k: v for k, v in flatten(config).items() if k not in ("workers", "isolation", "allow_weak")}
    return code_version(files, (sorted(settings.items()), sys.version_info[:2]))


@dataclass(frozen=True)
class ProgramExecutor:
    """The sandbox of a domain; it starts with the first program."""

    config: SandboxConfig

    def pass_many(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether each program passes the tests of its reference; without tests, whether it is the same program."""
        tests = [_tests(reference) for _, reference in pairs]
        programs = [
            Program(source=without_tests(source), tests=own)
            for (source, _), own in zip(pairs, tests, strict=True)
            if own is not None
        ]
        results = self._sandbox.run(programs) if programs else iter(())
        return [
            normal(source) == normal(reference) if own is None else next(results).ok
            for (source, reference), own in zip(pairs, tests, strict=True)
        ]

    def group_by_outputs(self, sources: Sequence[str], function: str, calls: Sequence[Sequence[Any]]) -> AnswerGroups:
        """Programs grouped by what they give for the same calls; one that fails in all of them stands alone."""
        return AnswerGroups(keys=tuple(_key(i, o) for i, o in enumerate(self._called(sources, function, calls))))

    def group_by_written_tests(self, sources: Sequence[str], responses: Sequence[str]) -> AnswerGroups:
        """Programs grouped by which of the tests they pass that models wrote beside them and that most programs pass.

        A test is agreed on where more than half of the programs give what it expects; the share of those is the
        agreement. Where no test is agreed on, programs are grouped by what they give for the calls; where there is no
        test at all, by their text.
        """
        function, tests = _written_tests(responses)
        if not tests:
            return AnswerGroups(keys=tuple(map(normal, sources)))
        results = self._called(sources, function, [arguments for arguments, _ in tests])
        gives = [
            [key == expected for key, (_, expected) in zip(_keys(o, len(tests)), tests, strict=True)] for o in results
        ]
        agreed = [i for i in range(len(tests)) if 2 * sum(row[i] for row in gives) > len(sources)]
        share = len(agreed) / len(tests)
        if not agreed:
            return AnswerGroups(keys=tuple(_key(i, o) for i, o in enumerate(results)), agreement=share)
        return AnswerGroups(keys=tuple("".join("01"[row[i]] for i in agreed) for row in gives), agreement=share)

    def _called(self, sources: Sequence[str], function: str, calls: Sequence[Sequence[Any]]) -> list[ProgramResult]:
        tests = Calls(function=function, arguments=calls)
        return list(self._sandbox.run(Program(source=without_tests(source), tests=tests) for source in sources))

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(self.config)


def _written_tests(responses: Sequence[str]) -> tuple[str, list[tuple[list[Any], str | None]]]:
    """The function that most tests call, and the distinct tests of it: arguments, and the key of the value."""
    from sq.sandbox.plain_values import value_key

    written = [test for response in responses for test in asserted(response)]
    if not written:
        return "", []
    function = Counter(name for name, _, _ in written).most_common(1)[0][0]
    tests: dict[tuple[str | None, str | None], list[Any]] = {}
    for name, arguments, value in written:
        if name == function:
            tests.setdefault((value_key(arguments), value_key(value)), arguments)
    return function, [(arguments, value) for (_, value), arguments in list(tests.items())[:MAX_CALLS]]


def _keys(result: ProgramResult, count: int) -> tuple[str | None, ...]:
    return result.keys if len(result.keys) == count else (None,) * count


def _key(index: int, result: ProgramResult) -> str:
    if not any(result.keys):
        return f"failed {index}"
    return json.dumps(result.keys)


def _tests(reference: str) -> Calls | Asserts | None:
    try:
        parsed = json.loads(reference)
        return Calls(
            function=str(parsed["function"]),
            arguments=[list(arguments) for arguments, _ in parsed["calls"]],
            expected=[value for _, value in parsed["calls"]],
        )
    except (ValueError, TypeError, KeyError):
        pass
    tree = parse(reference)
    lines = reference.splitlines()
    if tree is None or not tree.body or "assert" not in reference:
        return None
    return Asserts(tests=["\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in tree.body])
