"""The columns of code benchmarks as their authors have them, and what a problem is made of.

HumanEval: `prompt`, `entry_point`, `canonical_solution`, `test`. MBPP: `text` or `prompt`, `code`, `test_list`,
`test_setup_code` or `test_imports`, `challenge_test_list`; its + version has all tests in `test`. BigCodeBench:
`complete_prompt`, `instruct_prompt`, `code_prompt`, `entry_point`, `canonical_solution`, `test`. LiveCodeBench: see
`code_livecodebench.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sq.domains.code.blocks import parse
from sq.eval.code_livecodebench import read_livecodebench
from sq.sandbox.programs import count_unittests

STYLES = ("auto", "humaneval", "mbpp", "bigcodebench", "livecodebench")


def read_problem(row: Mapping[str, Any], style: str, *, complete: bool, challenge: bool) -> tuple[str, dict[str, Any]]:
    """What is asked in a row, and what an answer is graded by.

    Args:
        row: of a benchmark's file.
        style: whose columns it has; `auto` tells by them.
        complete: ask for a continuation of the prompt, where there is one, in place of an answer.
        challenge: MBPP's further tests count too.

    Returns:
        The question, and a dict: `prompt` (code that is given), `context` (the same, as far as it parses), `entry`
        (what must be defined), `setup`, `tests`, `solution` (the reference) and `unittest` (whether the tests are
        classes of it); of LiveCodeBench what its own reader gives.

    Raises:
        KeyError: for a column that is not there.
        ValueError: for tests that cannot be used.
    """
    style = _style_of(row) if style == "auto" else style
    if style == "livecodebench":
        return read_livecodebench(row)
    reader = {"humaneval": _humaneval, "mbpp": _mbpp, "bigcodebench": _bigcodebench}
    asked, code = reader[style](row, complete, challenge)
    _check(code)
    whole = next((text for text in (code["prompt"], f"{code['prompt']}\n    pass\n") if parse(text)), "")
    return asked, {**code, "context": whole}


def _style_of(row: Mapping[str, Any]) -> str:
    if row.get("test_list") is not None:
        return "mbpp"
    if row.get("complete_prompt") is not None or row.get("instruct_prompt") is not None:
        return "bigcodebench"
    if row.get("public_test_cases") is not None and row.get("question_content") is not None:
        return "livecodebench"
    if row.get("entry_point") is not None and row.get("test") is not None:
        return "humaneval"
    raise ValueError(f"the columns {', '.join(sorted(row))} are of no known style: give style=, columns=")


def _humaneval(row: Mapping[str, Any], complete: bool, challenge: bool) -> tuple[str, dict[str, Any]]:
    prompt, entry = _text(row, "prompt", "question"), _text(row, "entry_point")
    body, test = _maybe(row, "canonical_solution"), _text(row, "test")
    if not re.search(r"^(?:def\s+check\b|check\s*=|from\s.*\bcheck\b)", test, re.MULTILINE):
        raise ValueError("its test defines no function check")
    asked = (
        "Complete this Python function. Answer with the whole program in one code block.\n\n"
        f"```python\n{prompt.strip()}\n```"
    )
    code = {
        "prompt": prompt,
        "entry": [entry],
        "setup": "",
        "tests": [f"{test}\n\ncheck({entry})\n"],
        "solution": body if f"def {entry}" in body else prompt + body if body else "",
        "unittest": False,
    }
    return (prompt if complete else asked), code


def _mbpp(row: Mapping[str, Any], complete: bool, challenge: bool) -> tuple[str, dict[str, Any]]:
    text, solution = _text(row, "text", "prompt", "question"), _maybe(row, "code")
    listed = _texts(row, "test_list")
    setup = "\n".join([*_texts(row, "test_imports"), _maybe(row, "test_setup_code")]).strip()
    whole = _maybe(row, "test")  # the + version has its many tests in one text
    tests = [whole] if whole else [*listed, *(_texts(row, "challenge_test_list") if challenge else ())]
    examples = "\n".join(listed)
    asked = (
        f"{text.strip()}\n\nWrite it in Python, so that these tests pass:\n\n```python\n{examples}\n```\n\n"
        "Answer with the whole program in one code block."
    )
    if complete:
        asked = f'"""\n{text.strip()}\n{examples}\n"""\n'
    code = {
        "prompt": "",
        "entry": _tested(listed, solution),
        "setup": setup,
        "tests": tests,
        "solution": solution,
        "unittest": False,
    }
    return asked, code


def _bigcodebench(row: Mapping[str, Any], complete: bool, challenge: bool) -> tuple[str, dict[str, Any]]:
    prompt, entry = _maybe(row, "complete_prompt") or _maybe(row, "code_prompt"), _text(row, "entry_point")
    body, start = _maybe(row, "canonical_solution"), _maybe(row, "code_prompt") or prompt
    if count_unittests(_text(row, "test")) == 0:
        raise ValueError("there is no test in a class of unittest")
    asked = prompt if complete else _text(row, "instruct_prompt", "complete_prompt")
    code = {
        "prompt": prompt,
        "entry": [entry],
        "setup": "",
        "tests": [_text(row, "test")],
        "solution": body if f"def {entry}" in body else start + body if body else "",
        "unittest": True,
    }
    return asked, code


def _text(row: Mapping[str, Any], *names: str) -> str:
    for name in names:
        if isinstance(row.get(name), str) and row[name].strip():
            return str(row[name])
    raise KeyError(names[0])


def _maybe(row: Mapping[str, Any], name: str) -> str:
    """A text that need not be there."""
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"its {name} is of type {type(value).__name__}, and text is wanted")
    return (value or "").replace("\r\n", "\n")


def _texts(row: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts that need not be there; a text may hold the list, as it does in a file made from a table."""
    value = row.get(name)
    if isinstance(value, str):
        try:
            parsed = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            parsed = None
        value = parsed if isinstance(parsed, list) else [value] if value.strip() else []
    if value is not None and not (isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)):
        raise ValueError(f"its {name} is no list of texts")
    return [text.replace("\r\n", "\n") for text in value or ()]


def _tested(tests: Sequence[str], solution: str) -> list[str]:
    """The function that the tests are about: of those that the reference defines, the first that they call."""
    tree = parse(solution)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {node.name for node in (tree.body if tree else ()) if isinstance(node, kinds)}
    for test in tests:
        body = parse(test)
        calls = [n for n in ast.walk(body) if isinstance(n, ast.Call)] if body else []
        names = [n.func.id for n in calls if isinstance(n.func, ast.Name)]
        if defined_names := [name for name in names if name in defined]:
            return defined_names[:1]
    return []


def _check(code: Mapping[str, Any]) -> None:
    """Raise a ValueError for tests that cannot be used."""
    if not any(test.strip() for test in code["tests"]):
        raise ValueError("there is no test")
    for text in (*code["tests"], code["setup"]):
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"its tests do not parse: {error}") from error
        if text != code["setup"] and not any(isinstance(node, ast.Assert | ast.Call) for node in ast.walk(tree)):
            raise ValueError(f"a test asserts nothing: {text.strip()[:60]!r}")
