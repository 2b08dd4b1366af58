"""The program in what a model wrote for a code benchmark: from a fenced block, from bare code, or as a continuation.

Chat models answer with fenced blocks among prose, base models go on where the prompt stopped. What comes out is always
self-contained: what the prompt gives before the function (imports, helpers) stands before it. Nothing here runs it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sq.core.thinking import UNFINISHED, answer_start
from sq.domains.code.extract import MAX_TEXT, parse

_FENCE = re.compile(r"^[ \t]{0,3}(```|~~~)[ \t]*([\w+#.-]*)[^\n]*$", re.MULTILINE)
_PYTHON = ("", "python", "python3", "py", "py3")
_STOPS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>", "<｜end▁of▁sentence｜>", "<|end_of_text|>")
_STARTS = re.compile(r"^(?:from\s|import\s|def\s|class\s|async\s|@|[A-Za-z_]\w*\s*=)", re.MULTILINE)
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MOST_CUTS = 200
"""Lines that are tried as the end of bare code; what follows them is prose."""


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """A program, or why there is none."""

    source: str | None
    where: str
    """block, text or continuation; else nowhere."""
    reason: str = ""


def extract_program(output: str, *, prompt: str = "", entry: str = "", finish_reason: str | None = None) -> Extracted:
    """The program of an output.

    Args:
        output: all that the model wrote.
        prompt: the code it was given to complete; empty where the task was told in words alone.
        entry: the name that its program must define; empty where it is free.
        finish_reason: `length` means that the output was cut off, and a program that was not finished is none.
    """
    text = output[-MAX_TEXT:].replace("\r\n", "\n")
    text = text[: min((at for stop in _STOPS if (at := text.find(stop)) > 0), default=len(text))]
    start = answer_start(text)
    if start == UNFINISHED:
        return Extracted(source=None, where="nowhere", reason="cut off while thinking")
    text, cut = text[start or 0 :], finish_reason == "length"
    found = _in_blocks(text, prompt, entry, cut)
    if found is None and "```" not in text:
        found = _bare(text, prompt, entry, cut)
    if found is None:
        return Extracted(source=None, where="nowhere", reason="cut off before a program's end" if cut else "no program")
    source, where = found
    return Extracted(source=_with_preamble(source, prompt, entry), where=where)


def _in_blocks(text: str, prompt: str, entry: str, cut: bool) -> tuple[str, str] | None:
    """The last block that defines the entry; else one that continues the prompt; else the last that is Python."""
    blocks = list(_blocks(text, unclosed=not cut))
    for source in reversed(blocks):
        if _defines(source, entry):
            return source, "block"
    for source in reversed(blocks):
        if prompt and (whole := _continued(prompt, source, entry)):
            return whole, "continuation"
    for source in reversed(blocks):
        if _names(source):
            return source, "block"
    return (blocks[-1], "block") if blocks else None


def _blocks(text: str, *, unclosed: bool) -> Iterator[str]:
    """The blocks of Python; the last one may lack its end where the output ended by itself."""
    marks = list(_FENCE.finditer(text))
    while marks:
        opening = marks.pop(0)
        while marks and (marks[0][1] != opening[1] or marks[0][2]):
            marks.pop(0)
        closing = marks.pop(0) if marks else None
        if opening[2].lower() in _PYTHON and (closing or unclosed):
            yield text[opening.end() + 1 : closing.start() if closing else len(text)].rstrip("\n")


def _bare(text: str, prompt: str, entry: str, cut: bool) -> tuple[str, str] | None:
    """Code without fences: a continuation of the prompt, or a program with prose around it."""
    if prompt and (whole := _continued(prompt, text, entry)):
        return whole, "continuation"
    start = _STARTS.search(text)
    if start is None:
        return None
    source = _longest(text[start.start() :])
    if (
        source is None
        or not _defines(source, entry)
        or (cut and source.count("\n") + 1 >= _lines(text[start.start() :]))
    ):
        return None
    return source, "text"


def _continued(prompt: str, text: str, entry: str) -> str | None:
    """The prompt with the body that an output begins with; what is not indented any more belongs to something else."""
    lines = text.strip("\n").split("\n")
    if lines and lines[0] and not lines[0][0].isspace():  # the first line's indentation is often lost
        if _STARTS.match(lines[0]) and not lines[0].lstrip().startswith(("import ", "from ")) and "=" not in lines[0]:
            return None
        body = "    " + lines[0]
    else:
        body = lines[0] if lines else ""
    kept = [body]
    for line in lines[1:]:
        if line and not line[0].isspace() and not line.startswith((")", "]", "}", "#", '"""', "'''")):
            break
        kept.append(line)
    whole = _longest(prompt.rstrip("\n") + "\n" + "\n".join(kept))
    return whole if whole and len(whole) > len(prompt.rstrip()) + 1 and _has_body(whole, entry) else None


def _longest(source: str) -> str | None:
    """The longest run of whole lines, from the first, that parses."""
    lines = source.rstrip().split("\n")
    for end in range(len(lines), max(0, len(lines) - _MOST_CUTS), -1):
        tree = parse("\n".join(lines[:end]))
        if tree is not None and tree.body:
            return "\n".join(lines[:end])
    return None


def _has_body(source: str, entry: str) -> bool:
    """Whether the function does something besides saying what it is for."""
    tree = parse(source)
    for node in tree.body if tree else ():
        if isinstance(node, _DEFINES) and (not entry or node.name == entry):
            first = node.body[0]
            told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            return len(node.body) > (1 if told else 0)
    return False


def _defines(source: str, entry: str) -> bool:
    names = _names(source)
    return entry in names if entry else bool(names)


def _names(source: str) -> set[str]:
    """What a program defines or assigns at its top level."""
    tree = parse(source)
    names: set[str] = set()
    for node in tree.body if tree else ():
        if isinstance(node, _DEFINES):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _with_preamble(source: str, prompt: str, entry: str) -> str:
    """A program after what its prompt gives before the function: imports, helpers, constants."""
    if not prompt or source.startswith(prompt.rstrip("\n")):
        return source
    tree = parse(prompt) or parse(prompt.rstrip("\n") + "\n    pass\n")
    lines = prompt.split("\n")
    own = _names(source)
    given = [
        "\n".join(lines[_first_line(node) - 1 : node.end_lineno])
        for node in (tree.body if tree else ())
        if not (isinstance(node, _DEFINES) and (node.name == entry or node.name in own))
    ]
    return "\n".join([*given, "", source]) if given else source


def _first_line(node: ast.stmt) -> int:
    decorators = node.decorator_list if isinstance(node, _DEFINES) else []
    return min([node.lineno, *(d.lineno for d in decorators)])


def _lines(text: str) -> int:
    return text.rstrip().count("\n") + 1
