"""LiveCodeBench's rows (Jain et al. 2024, arXiv 2403.07974): problems of contests, with cases of input and output.

`question_content`, `starter_code` (empty where the program reads standard input), `contest_date`, `difficulty`,
`platform`, `public_test_cases` (JSON: a list of `input`, `output`, `testtype`), `private_test_cases` (the same; or, as
it is published, base64 of zlib of a pickle of that text), `metadata` (JSON with `func_name`). A file holds gigabytes of
cases, so they stay packed until a program is run. The pickle is read by its opcodes: nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import json
import pickletools
import zlib
from collections.abc import Mapping
from datetime import date
from typing import Any

from sq.sandbox.cases import arguments_of
from sq.sandbox.programs import Cases

_MOST = 1 << 30
"""Bytes that the cases of a problem may be unpacked to."""
_TEXT = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_AROUND = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}
_MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "builtins", "typing",
)  # fmt: skip
PRELUDE = "\n".join(
    [
        *(f"from {name} import *" for name in _MODULES),
        f"import {', '.join(name for name in _MODULES if name not in ('builtins', 'typing'))}",
        "sys.setrecursionlimit(50000)",
        "sys.set_int_max_str_digits(50000)",
    ]
)
"""What the benchmark's own harness imports and sets before every program, in its order."""


def read_livecodebench(row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What is asked in a row, and what `cases_of` and the extraction of programs take.

    Raises:
        KeyError: for a column that is not there.
        ValueError: for cases that cannot be used.
    """
    content, starter = str(row["question_content"]).strip(), str(row.get("starter_code") or "")
    packed = {name: row[name] for name in ("public_test_cases", "private_test_cases")}
    name = _function(row.get("metadata"))
    if name is None and starter.strip():
        raise ValueError("it has starter_code, and its metadata no func_name")
    asked = (
        f"Begin with this code:\n\n```python\n{starter.rstrip()}\n```"
        if starter.strip()
        else "Write a Python program that reads from standard input and prints the answer to standard output."
    )
    code = {
        "prompt": "",
        "entry": [name and ("Solution" if "class Solution" in starter else name)],
        "solution": "",
        "tests": [str(packed["public_test_cases"])],
        "packed": list(packed.values()),
        "function": f"Solution.{name}" if name else "",
    }
    _check(cases_of(code))
    return f"{content}\n\n{asked}\n\nAnswer with the whole program in one code block.", code


def cases_of(code: Mapping[str, Any]) -> Cases:
    """The cases of a problem, unpacked: the public ones first."""
    cases = [case for text in code["packed"] for case in _unpacked(text)]
    inputs, outputs = ([case[name] for case in cases] for name in ("input", "output"))
    return Cases(inputs=inputs, outputs=outputs, function=code["function"], prelude=PRELUDE)


def contest_day(row: Mapping[str, Any]) -> date:
    """The day of the contest that a problem is from.

    Raises:
        ValueError: where there is none.
    """
    try:
        return date.fromisoformat(str(row.get("contest_date"))[:10])
    except ValueError as error:
        raise ValueError(f"contest_date={row.get('contest_date')!r} is no date") from error


def _function(metadata: Any) -> str | None:
    """The function that is called, of a problem that has one."""
    value = json.loads(metadata or "{}")
    name = value.get("func_name") if isinstance(value, dict) else None
    if name is not None and not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(f"the func_name of its metadata cannot be called: {name!r}")
    return name


def _unpacked(text: Any) -> list[dict[str, Any]]:
    """A list of cases, from JSON or from how private ones are published."""
    try:
        cases = json.loads(text)
    except (TypeError, ValueError):
        cases = json.loads(_pickled_text(_inflated(text)))
    fields = ("input", "output", "testtype")
    if not (
        isinstance(cases, list)
        and all(isinstance(c, dict) and all(isinstance(c.get(name), str) for name in fields) for c in cases)
    ):
        raise ValueError("its tests are no list of objects with the texts input, output and testtype")
    return cases


def _inflated(text: Any) -> bytes:
    try:
        inflater = zlib.decompressobj()
        data = inflater.decompress(base64.b64decode(text, validate=True), _MOST)
    except (TypeError, ValueError, zlib.error) as error:
        raise ValueError("its test cases are neither JSON nor base64 of zlib") from error
    if inflater.unconsumed_tail or not inflater.eof:
        raise ValueError(f"its test cases are cut off, or more than {_MOST:,} bytes")
    return data


def _pickled_text(data: bytes) -> str:
    """The text that a pickle of one text holds."""
    texts = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _TEXT:
            texts.append(str(argument))
        elif opcode.name not in _AROUND:
            raise ValueError(f"its test cases are a pickle of more than a text ({opcode.name}): not read")
    if len(texts) != 1:
        raise ValueError(f"its test cases are a pickle of {len(texts)} texts, and one is wanted")
    return texts[0]


def _check(cases: Cases) -> None:
    """Raise a ValueError where there are no cases, or those of calls are no JSON."""
    if not cases.inputs:
        raise ValueError("there is no test")
    if cases.function:
        for given, expected in zip(cases.inputs, cases.outputs, strict=True):
            arguments_of(given)
            json.loads(expected)
