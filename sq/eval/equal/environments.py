r"""What TeX sets off: matrices, definitions by cases, and set-builders, each read from its opening on."""

from __future__ import annotations

import re

from sq.eval.equal.cursor import Cursor, Grammar
from sq.eval.equal.tree import Const, Matrix, Node, Op, ParseError, Sym

_MATRICES = frozenset({"pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array", "vmatrix", "Vmatrix"})
_CASES = frozenset({"cases", "dcases", "rcases"})


def environment(cursor: Cursor, grammar: Grammar) -> Node:
    r"""`\begin{pmatrix}`, `\begin{cases}` and their kin, once `\begin` is taken."""
    kind = cursor.raw_argument()
    if kind not in _MATRICES | _CASES:
        raise ParseError(f"the environment {kind} is not read")
    if (
        kind == "array"
        and cursor.peek().text == "{"
        and re.match(r"\{\s*[lcr|@\s]*\}", cursor.text[cursor.peek().start :])
    ):
        cursor.raw_argument()
    rows = _rows(cursor, grammar, in_cases=kind in _CASES)
    if cursor.raw_argument() != kind:
        raise ParseError("a matrix ends under another name")
    if kind in _CASES:
        return Op("cases", tuple(part for row in rows for part in _case(row)))
    return Matrix(tuple(tuple(r) for r in rows if r), "vmatrix" if kind == "vmatrix" else "matrix")


def _rows(cursor: Cursor, grammar: Grammar, *, in_cases: bool) -> list[list[Node]]:
    rows: list[list[Node]] = [[]]
    while cursor.peek().text != "end":
        if cursor.peek().text == "\\\\":
            cursor.next()
            rows.append([])
        elif cursor.peek().text == "&":
            cursor.next()
        elif cursor.peek().kind == "end":
            raise ParseError("a matrix does not end")
        else:
            rows[-1].append(grammar.listed() if in_cases else grammar.operand())
    cursor.next()
    return [r for r in rows if r]


def _case(row: list[Node]) -> tuple[Node, Node]:
    if len(row) != 2:
        raise ParseError("a case is no value with its condition")
    return row[0], row[1]


def builder_bar(cursor: Cursor) -> bool:
    """Whether exactly one bar (or colon) stands in the braces at their own level."""
    depth, bars = 1, 0
    for ahead in range(0, 200):
        token = cursor.peek(ahead)
        if token.kind == "end" or depth == 0:
            break
        depth += (token.text in ("(", "[", "\\{", "{")) - (token.text in (")", "]", "\\}", "}"))
        bars += depth == 1 and token.kind == "op" and token.text in ("|", ":")
    return bars == 1


def builder(cursor: Cursor, grammar: Grammar, closers: tuple[str, ...]) -> Node:
    """`{x | x > 3}`: its condition; with what it collects, where that is more than a real number."""
    cursor.bars += 1
    element, domain = grammar.operand(), None
    if cursor.peek().kind == "rel" and cursor.peek().text == "in":
        cursor.next()
        domain = grammar.operand()
    cursor.bars -= 1
    if cursor.next().text not in ("|", ":"):
        raise ParseError("a set has no bar where one is expected")
    condition = grammar.listed(closers[0])
    if cursor.next().text not in closers:
        raise ParseError("a set is not closed")
    if isinstance(element, Sym) and domain in (None, Const("R")):
        return Op("builder", (condition,))
    return Op("builder", (condition, element, domain or Const("R")))


def over_whole_numbers(node: Op) -> bool:
    """Whether a set-builder collects whole numbers by a condition on them."""
    return len(node.args) == 3 and isinstance(node.args[1], Sym) and node.args[2] in (Const("Z"), Const("N"))
