r"""What TeX sets off: matrices and set-builders, each read from its opening on."""

from __future__ import annotations

import re

from sq.eval.equal.cursor import Cursor, Grammar
from sq.eval.equal.tree import Const, Matrix, Node, Op, ParseError, Sym

_MATRICES = frozenset({"pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"})


def environment(cursor: Cursor, grammar: Grammar) -> Node:
    r"""`\begin{pmatrix}` and its kin, once `\begin` is taken."""
    kind = cursor.raw_argument()
    if kind not in _MATRICES:
        raise ParseError(f"the environment {kind} is not read")
    if kind == "array" and re.match(r"\{\s*[lcr|@\s]*\}", cursor.text[cursor.peek().start :]):
        cursor.raw_argument()
    rows: list[list[Node]] = [[]]
    while (token := cursor.peek()).text != "end":
        if token.text == "\\\\":
            cursor.next()
            rows.append([])
        elif token.text == "&":
            cursor.next()
        elif token.kind == "end":
            raise ParseError("a matrix does not end")
        else:
            rows[-1].append(grammar.operand())
    cursor.next()
    if cursor.raw_argument() != kind:
        raise ParseError("a matrix ends under another name")
    return Matrix(tuple(tuple(row) for row in rows if row))


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
    """`{x | x > 3}`: the condition on a real number."""
    cursor.bars += 1
    element: Node = grammar.operand()
    domain: Node = Const("R")
    if cursor.peek().kind == "rel" and cursor.peek().text == "in":
        cursor.next()
        domain = grammar.operand()
    cursor.bars -= 1
    if cursor.next().text not in ("|", ":"):
        raise ParseError("a set has no bar where one is expected")
    condition = grammar.listed(closers[0])
    if cursor.next().text not in closers:
        raise ParseError("a set is not closed")
    if not isinstance(element, Sym) or domain != Const("R"):
        raise ParseError("a set of more than real numbers is not read")
    return Op("builder", (condition,))
