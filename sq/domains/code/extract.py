"""The program in what a model wrote: from a fenced block, from bare code, or as a continuation of a prompt.

Chat models answer with fenced blocks among prose, base models go on where the prompt stopped. What comes out is always
self-contained: what the prompt gives before the function (imports, helpers) stands before it. Nothing here runs it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sq.core import thinking
from sq.core.files import code_version
from sq.core.thinking import UNFINISHED, answer_start, tail
from sq.domains.code.blocks import (
    DEFINITIONS,
    MAX_TEXT,
    blocks,
    completed,
    defines,
    first_line,
    is_test,
    longest,
    names,
    parse,
)

_STOPS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>", "<｜end▁of▁sentence｜>", "<|end_of_text|>")
_STARTS = re.compile(r"^(?:from\s|import\s|def\s|class\s|async\s|@|[A-Za-z_]\w*\s*=)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ExtractedProgram:
    """A program, or why there is none."""

    source: str | None
    location: str
    """block, text or continuation; else nowhere."""
    reason: str = ""


@lru_cache
def extractor_version() -> str:
    """A digest of the code that finds a program, and the Python that parses it."""
    here = Path(__file__)
    return code_version([here, here.with_name("blocks.py"), Path(thinking.__file__)], sys.version_info[:2])


def program_in(text: str) -> str | None:
    """The last block that defines a function or class; where none does, the last that does more than assert.

    Only closed blocks of Python that parse count: one that was cut off is no program. A function of tests is none.
    """
    sources = [source for source, _ in _parsed(text.removeprefix("\ufeff"))]
    return _last_defining(sources) or next((s for s in reversed(sources) if _acts(s)), None)


def extract_program(
    output: str, *, prompt: str = "", entry: str | None = "", finish_reason: str | None = None
) -> ExtractedProgram:
    """The program of an output.

    Args:
        output: all that the model wrote.
        prompt: the code it was given to complete; empty where the task was told in words alone.
        entry: the name that its program must define; empty where it is free, None for a script, which calls.
        finish_reason: `length` means that the output was cut off, and a program that was not finished is none.
    """
    text = tail(output, MAX_TEXT).removeprefix("\ufeff").replace("\r\n", "\n")
    text = text[: min((at for stop in _STOPS if (at := text.find(stop)) > 0), default=len(text))]
    start = answer_start(text)
    if start == UNFINISHED:
        return ExtractedProgram(source=None, location="nowhere", reason="cut off while thinking")
    text, cut = text[start or 0 :], finish_reason == "length"
    before, fence, _ = text.partition("```")
    found = None
    if fence and before.strip() and before.strip("\n")[0].isspace():  # a body; the prompt opened what is closed here
        found = _bare(before, prompt, entry, cut=False)
    found = found or _in_blocks(text, prompt, entry, cut)
    if not fence and found is None:
        found = _bare(text, prompt, entry, cut)
    elif (found is None or not defines(found[0], entry)) and _begins(entry, before):
        found = _bare(before, prompt, entry, cut=False) or found
    if found is None:
        return ExtractedProgram(
            source=None, location="nowhere", reason="cut off before a program's end" if cut else "no program"
        )
    source, where = found
    return ExtractedProgram(source=_with_preamble(source, prompt, entry), location=where)


def without_tests(source: str) -> str:
    """A program without the asserts and example calls beside its functions: they may be wrong where it is right."""
    tree = parse(source)
    defined = {node.name for node in tree.body if isinstance(node, DEFINITIONS)} if tree else set()
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
        tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and is_test(node)]
        for node in (*tree.body, *(node for test in tests for node in test.body)):
            found = _call(node.test) if isinstance(node, ast.Assert) else None
            if found is not None:
                yield found


def normal(source: str) -> str:
    """A form of a program in which comments and layout do not count; the source itself where it does not parse."""
    tree = parse(source)
    return ast.dump(tree) if tree is not None else source


def _last_defining(sources: Sequence[str], entry: str | None = "") -> str | None:
    """The last block that defines the entry, after what it uses of the blocks before it."""
    for at, source in reversed(list(enumerate(sources))):
        if defines(source, entry):
            return completed(source, sources[:at])
    return None


def _in_blocks(text: str, prompt: str, entry: str | None, cut: bool) -> tuple[str, str] | None:
    """The last block that defines the entry; else one that continues the prompt; else the last that is Python."""
    sources = blocks(text, unclosed=not cut)
    if source := _last_defining(sources, entry):
        return source, "block"
    for source in reversed(sources):
        if prompt and (whole := _continued(prompt, source, entry)):
            return whole, "continuation"
    last = next((s for s in reversed(sources) if names(s)), sources[-1] if sources else None)
    return (last, "block") if last is not None else None


def _bare(text: str, prompt: str, entry: str | None, cut: bool) -> tuple[str, str] | None:
    """Code without fences: a continuation of the prompt, or a program with prose around it."""
    again = _begins(entry, text)
    indented = text.strip("\n")[:1].isspace()
    if prompt and (indented or not again) and (whole := _continued(prompt, text, entry)):
        return whole, "continuation"
    start = _STARTS.search(text)
    if start is None:
        return None
    source = longest(text[start.start() :])
    if (
        source is None
        or not defines(source, entry)
        or (cut and source.count("\n") + 1 >= _lines(text[start.start() :]))
    ):
        return None
    return source, "text"


def _continued(prompt: str, text: str, entry: str | None) -> str | None:
    """The prompt with the body that an output begins with; what is not indented any more belongs to something else."""
    lines = text.strip("\n").split("\n")
    if lines and lines[0] and not lines[0][0].isspace():  # the first line's indentation is often lost
        if _STARTS.match(lines[0]) and not lines[0].lstrip().startswith(("import ", "from ")) and "=" not in lines[0]:
            return None
        if any(line.startswith("return") for line in lines):  # that of every line is
            lines = [f"    {line}" if line else line for line in lines]
        body = lines[0] if lines[0][0].isspace() else f"    {lines[0]}"
    else:
        body = lines[0] if lines else ""
    kept = [body]
    for line in lines[1:]:
        if line and not line[0].isspace() and not line.startswith((")", "]", "}", "#", '"""', "'''")):
            break
        kept.append(line)
    whole = longest(prompt.rstrip("\n") + "\n" + "\n".join(kept))
    return whole if whole and len(whole) > len(prompt.rstrip()) + 1 and _has_body(whole, entry) else None


def _has_body(source: str, entry: str | None) -> bool:
    """Whether the function does something besides saying what it is for."""
    tree = parse(source)
    for node in tree.body if tree else ():
        if isinstance(node, DEFINITIONS) and (not entry or node.name == entry):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            return len(node.body) > (1 if documented else 0)
    return False


def _begins(entry: str | None, text: str) -> bool:
    return bool(entry and re.search(rf"^(?:async )?def {re.escape(entry)}\b", text, re.MULTILINE))


def _with_preamble(source: str, prompt: str, entry: str | None) -> str:
    """A program after what its prompt gives before the function: imports, helpers, constants."""
    if not prompt or source.startswith(prompt.rstrip("\n")):
        return source
    tree = parse(prompt) or parse(prompt.rstrip("\n") + "\n    pass\n")
    lines = prompt.split("\n")
    own = names(source)
    given = [
        "\n".join(lines[first_line(node) - 1 : node.end_lineno])
        for node in (tree.body if tree else ())
        if not (isinstance(node, DEFINITIONS) and (node.name == entry or node.name in own))
    ]
    return "\n".join([*given, "", source]) if given else source


def _lines(text: str) -> int:
    return text.rstrip().count("\n") + 1


def _acts(source: str) -> bool:
    """Whether a program does more than import and assert."""
    tree = parse(source)
    return any(not isinstance(n, ast.Assert | ast.Import | ast.ImportFrom) for n in (tree.body if tree else ()))


def _parsed(text: str) -> Iterator[tuple[str, ast.Module]]:
    for source in blocks(text[-MAX_TEXT:]):
        tree = parse(source)
        if tree is not None and tree.body:
            yield source, tree


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
