"""What an answer is made of, once read: a small tree of plain values.

Nothing here computes. A tree is built by `parser`, given a value by `value` and compared by `compare`. A variable `e`,
the number `e` and the word `e` are three things, though as plain tuples they would be one; hence their own equality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, TypeAlias


class Num(NamedTuple):
    """A written number, exact; `digits` is how many significant digits a decimal shows (0 for an integer)."""

    value: Fraction
    digits: int = 0
    places: int = 0


@dataclass(frozen=True, slots=True)
class Sym:
    """A variable, with its subscript and marks in its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Const:
    """pi, e, i, inf, emptyset, dots, or a set such as R."""

    name: str


class Op(NamedTuple):
    """An operation or function on other nodes."""

    op: str
    args: tuple[Node, ...]


class Seq(NamedTuple):
    r"""Things between brackets, or (left == "") things listed bare. `right` of a bare list is ",", "or" or "and"."""

    left: str
    right: str
    items: tuple[Node, ...]


class Rel(NamedTuple):
    """A chain such as a < b <= c; `names[i]` says that part i is a mere name (x, f(x), |AB|, (p, q))."""

    parts: tuple[Node, ...]
    ops: tuple[str, ...]
    names: tuple[str, ...]


class Matrix(NamedTuple):
    """Rows of cells."""

    rows: tuple[tuple[Node, ...], ...]


class Quantity(NamedTuple):
    """A value with its unit as written ("percent" and "degree" included)."""

    value: Node
    unit: str


class Base(NamedTuple):
    """Digits in a written base, such as 204_5."""

    digits: str
    base: int


class Clock(NamedTuple):
    """A time of day: minutes and seconds as written, and am, pm or nothing."""

    parts: tuple[int, ...]
    half: str


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    words: str


Node: TypeAlias = Num | Sym | Const | Op | Seq | Rel | Matrix | Quantity | Base | Clock | Text


class ParseError(ValueError):
    """Text that is not mathematics as we read it; or too long, too deep, too large."""


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below."""
    if isinstance(node, Op):
        return node.args
    if isinstance(node, Seq):
        return node.items
    if isinstance(node, Rel):
        return node.parts
    if isinstance(node, Matrix):
        return tuple(cell for row in node.rows for cell in row)
    if isinstance(node, Quantity):
        return (node.value,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(children(node))


@lru_cache(maxsize=8192)
def symbols(node: Node) -> frozenset[str]:
    """The names of the variables in it."""
    bound = {n.args[0].name for n in walk(node) if isinstance(n, Op) and n.op in SUMS and isinstance(n.args[0], Sym)}
    return frozenset(n.name for n in walk(node) if isinstance(n, Sym)) - bound


SUMS = ("sum", "prod")
ANY_INTEGER = "any integer"
"""The name given to a variable that an answer says runs over the integers."""


def mapped(node: Node, change: Callable[[Node], Node]) -> Node:
    """The node with every node directly below it changed."""
    if isinstance(node, Op):
        return Op(node.op, tuple(map(change, node.args)))
    if isinstance(node, Seq):
        return Seq(node.left, node.right, tuple(map(change, node.items)))
    if isinstance(node, Rel):
        return Rel(tuple(map(change, node.parts)), node.ops, node.names)
    if isinstance(node, Matrix):
        return Matrix(tuple(tuple(map(change, row)) for row in node.rows))
    if isinstance(node, Quantity):
        return Quantity(change(node.value), node.unit)
    return node


def replace(node: Node, table: dict[str, Node]) -> Node:
    """The tree with variables put in place of others."""
    return table.get(node.name, node) if isinstance(node, Sym) else mapped(node, lambda n: replace(n, table))
