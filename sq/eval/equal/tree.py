"""What an answer is made of, once read: a small tree of plain values.

Nothing here computes. A tree is built by `parser`, given a value by `value` and compared by `compare`. A variable `e`,
the number `e` and the word `e` are three things, though as plain tuples they would be one; hence their own equality.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, TypeAlias


class Num(NamedTuple):
    """A written number, exact; `digits` is how many significant digits a decimal shows (0 for an integer)."""

    value: Fraction
    digits: int = 0
    places: int = 0


class Sym(NamedTuple):
    """A variable, with its subscript and marks in its name."""

    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sym) and self.name == other.name

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(("Sym", self.name))


class Const(NamedTuple):
    """pi, e, i, inf, emptyset, dots, or a set such as R."""

    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and self.name == other.name

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(("Const", self.name))


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
    """Rows of cells; `kind` is matrix, array or vmatrix (a determinant)."""

    rows: tuple[tuple[Node, ...], ...]
    kind: str = "matrix"


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


class Text(NamedTuple):
    """Words."""

    words: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and self.words == other.words

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(("Text", self.words))


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


def replace(node: Node, table: dict[str, Node]) -> Node:
    """The tree with variables put in place of others."""
    if isinstance(node, Sym):
        return table.get(node.name, node)
    if isinstance(node, Op):
        return Op(node.op, tuple(replace(a, table) for a in node.args))
    if isinstance(node, Seq):
        return Seq(node.left, node.right, tuple(replace(a, table) for a in node.items))
    if isinstance(node, Rel):
        return Rel(tuple(replace(a, table) for a in node.parts), node.ops, node.names)
    if isinstance(node, Matrix):
        return Matrix(tuple(tuple(replace(a, table) for a in row) for row in node.rows), node.kind)
    if isinstance(node, Quantity):
        return Quantity(replace(node.value, table), node.unit)
    return node
