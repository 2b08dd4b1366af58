"""Blocks of Python in what a model wrote, and what their syntax trees tell. Nothing here runs them."""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from textwrap import dedent

MAX_TEXT = 60_000
"""Characters looked at, from the end."""
MAX_BLOCKS = 30
"""The last ones of a text."""
_FENCE = re.compile(
    r"(?:^[ \t]*(?=`{3}|~{3})|(?=```[ \t]*python3?[ \t]*$))(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n`]*\n",
    re.MULTILINE | re.IGNORECASE,
)
"""A fence alone on its line; behind words it must say that Python follows."""
_STRING_FENCES = 4
_MAX_CUTS = 200
"""Lines that are tried as the end of code without one; what follows them is prose."""
_ODD_SPACES = {0xA0: " ", 0x200B: None, 0xFEFF: None}
_PYTHON = ("", "python", "python3", "py", "py3")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


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


def blocks(text: str, *, unclosed: bool = False) -> list[str]:
    """The blocks of Python in a text, without their fences, fixed where they do not parse as they stand.

    Args:
        text: what a model wrote.
        unclosed: let the last one lack its end.
    """
    sources: deque[str] = deque(maxlen=MAX_BLOCKS)
    at = 0
    while start := _FENCE.search(text, at):
        mark = start[1]
        close = re.compile(rf"^[ \t]*{mark[0]}{{{len(mark)},}}[ \t]*$", re.MULTILINE)
        is_python = start[2].lower() in _PYTHON
        end = close.search(text, start.end())
        if end is None:
            inner = text[start.end() :]
            if is_python and (unclosed or mark in inner):  # its end may stand behind its last line
                sources.append(_fixed(inner.partition(mark)[0], cut=mark not in inner))
            break
        for _ in range(_STRING_FENCES if is_python else 0):  # a fence within a string of the program is not its end
            later = close.search(text, end.end()) if _within_string(text[start.end() : end.start()]) else None
            if later is None:
                break
            end = later
        if is_python:
            sources.append(_fixed(text[start.end() : end.start()]))
        at = end.end()
    return list(sources)


def longest(source: str) -> str | None:
    """The longest run of whole lines, from the first, that parses and is not empty."""
    lines = source.rstrip().split("\n")
    for end in range(len(lines), max(0, len(lines) - _MAX_CUTS), -1):
        tree = parse("\n".join(lines[:end]))
        if tree is not None and tree.body:
            return "\n".join(lines[:end])
    return None


def names(source: str) -> set[str]:
    """What a program defines or assigns at its top level, also under `if`, `try` and `with`."""
    tree = parse(source)
    return set(_defined(tree.body, imports=False)) if tree else set()


def defines(source: str, entry: str | None) -> bool:
    """Whether a program defines the entry; where that is free, a function or class that is no test; None: it calls."""
    if entry:
        return entry in names(source)
    tree = parse(source)
    if entry is None:
        return any(isinstance(node, ast.Call) for node in (ast.walk(tree) if tree else ()))
    return any(isinstance(node, DEFINITIONS) and not is_test(node) for node in (tree.body if tree else ()))


def completed(source: str, others: Sequence[str]) -> str:
    """A program after what it uses of other blocks: helpers and imports that were given in blocks of their own."""
    have: dict[str, str] = {}
    for other in others:
        tree = parse(other) if other != source else None
        lines = other.splitlines()
        for node in tree.body if tree else ():
            if isinstance(node, (*DEFINITIONS, ast.Import, ast.ImportFrom, ast.Assign)) and not is_test(node):
                text = "\n".join(lines[first_line(node) - 1 : node.end_lineno])
                have |= dict.fromkeys(_defined([node]), text)
    whole = source
    for _ in have:
        wanted = [have[name] for name in sorted(_missing(whole)) if name in have]
        if not wanted:
            break
        whole = "\n\n".join([*dict.fromkeys(wanted), whole])
    return whole if parse(whole) else source


def first_line(node: ast.stmt) -> int:
    """The line a statement begins at, its decorators included."""
    decorators = node.decorator_list if isinstance(node, DEFINITIONS) else []
    return min([node.lineno, *(d.lineno for d in decorators)])


def is_test(node: ast.stmt) -> bool:
    """Whether it is a function that does nothing but test others: called so, or it asserts and returns nothing."""
    if not isinstance(node, ast.FunctionDef):
        return False
    if node.name.startswith("test"):
        return True
    asserts = any(isinstance(inner, ast.Assert) for inner in node.body)
    return asserts and not any(isinstance(inner, ast.Return | ast.Yield) for inner in ast.walk(node))


def _within_string(source: str) -> bool:
    """Whether a block ends within a string of three quotes, by what its syntax error says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(dedent(source[-MAX_TEXT:]))
        except SyntaxError as error:
            return "unterminated triple-quoted" in str(error)
        except (ValueError, RecursionError, MemoryError):
            return False
    return False


def _fixed(block: str, *, cut: bool = False) -> str:
    """A block as it parses: moved to the margin, with spaces that are spaces; else as it is.

    Where its end is missing, what follows the program's last whole line is not taken.
    """
    block = block.rstrip().strip("\n")
    even = dedent(block)
    for candidate in (block, even, even.translate(_ODD_SPACES)):
        if parse(candidate) is not None:
            return candidate
    return (cut and longest(even)) or block


def _defined(body: Sequence[ast.stmt], *, imports: bool = True) -> Iterator[str]:
    for node in body:
        if isinstance(node, DEFINITIONS):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom) and imports:
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            handlers = node.handlers if isinstance(node, ast.Try) else ()
            inner = [*node.body, *getattr(node, "orelse", ()), *(n for h in handlers for n in h.body)]
            yield from _defined(inner, imports=imports)


def _missing(source: str) -> set[str]:
    """Names that a program uses and nowhere defines."""
    tree = parse(source)
    used: set[str] = set()
    given = set(vars(builtins))
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else given).add(node.id)
        elif isinstance(node, ast.arg):
            given.add(node.arg)
        elif isinstance(node, (*DEFINITIONS, ast.Import, ast.ImportFrom)):
            given.update(_defined([node]))
        elif isinstance(node, ast.ExceptHandler) and node.name:
            given.add(node.name)
    return used - given
