"""The program in what a model wrote: a fenced block that parses. Nothing here runs it."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Any

MAX_TEXT = 60_000
"""Characters looked at, from the end."""
MAX_BLOCKS = 30
_FENCE = re.compile(r"^[ \t]{0,3}(?:```|~~~)[ \t]*([\w+#.-]*)[^\n]*\n", re.MULTILINE)
_PYTHON = ("", "python", "python3", "py", "py3")
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def program_in(text: str) -> str | None:
    """The last block that defines a function or class; where none does, the last that does more than assert.

    Only closed blocks of Python that parse count: one that was cut off is no program. A function of tests is none.
    """
    fallback: str | None = None
    for source, tree in reversed(list(_parsed(text))):
        if any(isinstance(node, _DEFINES) and not _is_test(node) for node in tree.body):
            return source
        if fallback is None and any(
            not isinstance(node, ast.Assert | ast.Import | ast.ImportFrom) for node in tree.body
        ):
            fallback = source
    return fallback


def parse(source: str) -> ast.Module | None:
    """The syntax tree of a program, or None where it does not parse."""
    if len(source) > MAX_TEXT:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def without_tests(source: str) -> str:
    """A program without the asserts and example calls beside its functions: they may be wrong where it is right."""
    tree = parse(source)
    defined = {node.name for node in tree.body if isinstance(node, _DEFINES)} if tree else set()
    if tree is None or not defined:
        return source
    kept = [node for node in tree.body if not _is_example(node, {*defined, "print"})]
    if len(kept) == len(tree.body):
        return source
    try:
        return ast.unparse(ast.Module(body=kept, type_ignores=[]))
    except RecursionError:
        return source


def asserted(text: str) -> Iterator[tuple[str, list[Any], Any]]:
    """Each `assert f(1, 2) == 3` on plain values in the blocks of a text: the function, its arguments, the value."""
    for _, tree in _parsed(text):
        tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and _is_test(node)]
        for node in (*tree.body, *(node for test in tests for node in test.body)):
            found = _call(node.test) if isinstance(node, ast.Assert) else None
            if found is not None:
                yield found


def normal(source: str) -> str:
    """A form of a program in which comments and layout do not count; the source itself where it does not parse."""
    tree = parse(source)
    return ast.dump(tree) if tree is not None else source


def _parsed(text: str) -> Iterator[tuple[str, ast.Module]]:
    for source in _blocks(text[-MAX_TEXT:]):
        tree = parse(source)
        if tree is not None and tree.body:
            yield source, tree


def _blocks(text: str) -> list[str]:
    """The closed blocks of Python, without their fences."""
    blocks: list[str] = []
    at = 0
    while len(blocks) < MAX_BLOCKS and (start := _FENCE.search(text, at)):
        mark = text[start.start() : start.end()].lstrip()[:3]
        close = re.compile(rf"^[ \t]{{0,3}}{mark}[ \t]*$", re.MULTILINE).search(text, start.end())
        if close is None:
            break
        if start[1].lower() in _PYTHON:
            blocks.append(text[start.end() : close.start()].rstrip("\n"))
        at = close.end()
    return blocks


def _is_test(node: ast.stmt) -> bool:
    """Whether it is a function that does nothing but test others: called so, or it asserts and returns nothing."""
    if not isinstance(node, ast.FunctionDef):
        return False
    if node.name.startswith("test"):
        return True
    asserts = any(isinstance(inner, ast.Assert) for inner in node.body)
    return asserts and not any(isinstance(inner, ast.Return | ast.Yield) for inner in ast.walk(node))


def _is_example(node: ast.stmt, known: set[str]) -> bool:
    if isinstance(node, ast.Assert):
        return True
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in known


def _call(test: ast.expr) -> tuple[str, list[Any], Any] | None:
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)):
        return None
    call = test.left
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.keywords):
        return None
    try:
        return call.func.id, [ast.literal_eval(arg) for arg in call.args], ast.literal_eval(test.comparators[0])
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
