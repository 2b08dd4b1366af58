r"""Vectors written with unit vectors: `2\mathbf{i} - \mathbf{j}` is `(2, -1)`; matrices written as lists of rows."""

from __future__ import annotations

from fractions import Fraction

from sq.eval.equal.identity import same
from sq.eval.equal.tree import Const, Matrix, Node, Num, Op, Seq, Sym, replace, symbols, walk
from sq.eval.equal.value import Uncomputable

_AXES = "ijk"
_ZERO, _ONE = Num(Fraction(0)), Num(Fraction(1))
MAX_NODES = 200


def components(node: Node, count: int) -> tuple[Node, ...] | None:
    """The two or three components of a sum of multiples of i, j, k, or None where it is no such sum."""
    if count not in (2, 3) or isinstance(node, Seq) or sum(1 for _ in walk(node)) > MAX_NODES:
        return None
    plain = _with_plain_axes(node)
    axes = symbols(plain) & set(_AXES)
    if not axes or ("k" in axes and count == 2):
        return None
    try:
        if not same(replace(plain, dict.fromkeys(_AXES, _ZERO)), _ZERO):
            return None
        found = tuple(replace(plain, {a: _ONE if a == axis else _ZERO for a in _AXES}) for axis in _AXES[:count])
        again = Op("add", tuple(Op("mul", (part, Sym(axis))) for part, axis in zip(found, _AXES, strict=False)))
        return found if same(plain, again) else None
    except Uncomputable:
        return None


def _with_plain_axes(node: Node) -> Node:
    """The marks of unit vectors off: `\\hat{i}`, `\\vec{i}` and the imaginary `i` are the first axis here."""
    if isinstance(node, Op):
        return Op(node.op, tuple(_with_plain_axes(a) for a in node.args))
    if node == Const("i"):
        return Sym("i")
    if isinstance(node, Sym) and node.name.endswith(")") and node.name[-2] in _AXES and node.name[-3:-2] == "(":
        return Sym(node.name[-2])
    if isinstance(node, Sym) and node.name in (r"hat(\imath)", r"hat(\jmath)"):
        return Sym("i" if "imath" in node.name else "j")
    return node


def rows(node: Node) -> Matrix | None:
    """The matrix that `[[1, 2], [3, 4]]` writes, row by row."""
    if not (isinstance(node, Seq) and node.left in ("(", "[") and len(node.items) > 1):
        return None
    if not all(isinstance(i, Seq) and i.left in ("(", "[") and len(i.items) > 1 for i in node.items):
        return None
    return Matrix(tuple(i.items for i in node.items if isinstance(i, Seq)))
