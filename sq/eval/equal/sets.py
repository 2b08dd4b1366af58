"""Sets of real numbers: intervals, unions, inequalities in one variable, set-builders, all as sorted pieces.

`x < 3`, `(-inf, 3)` and `{x | 3 > x}` are one set. Bracket types are kept: an open end is not a closed one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mpmath import mp  # type: ignore[import-untyped]

from sq.eval.equal import relations
from sq.eval.equal.identity import DIGITS, value_at
from sq.eval.equal.tree import Const, Node, Op, Rel, Seq, Sym, replace, symbols

_FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
_BRACKETS = {"(": False, "[": True, ")": False, "]": True}


class Piece(NamedTuple):
    """An interval with its ends and whether each belongs to it."""

    low: Any
    low_in: bool
    high: Any
    high_in: bool


Pieces = list[Piece]


def is_set(node: Node) -> bool:
    """Whether a node can only be a set of numbers: a union, an inequality, a set-builder, R."""
    if isinstance(node, Op):
        return node.op in ("cup", "cap", "setminus", "builder")
    if isinstance(node, Const):
        return node.name == "R"
    if isinstance(node, Rel):
        return "in" in node.ops or any(op in _FLIP for op in node.ops)
    if isinstance(node, Seq):
        mixed = (
            len(node.items) == 2
            and _BRACKETS.get(node.left) != _BRACKETS.get(node.right)
            and node.left in "(["
            and node.left
        )
        return bool(mixed) or (node.left == "" and node.right != "," and any(is_set(i) for i in node.items))
    return False


def real_set(node: Node) -> Pieces | None:
    """The set a node stands for, or None where it is no set of real numbers with known ends."""
    with mp.workdps(DIGITS):
        pieces = _set(node)
        return None if pieces is None else _merged(pieces)


def hold_other_sets(a: Node, b: Node) -> bool:
    """Whether two sets differ in how many of their elements are sets: `{1, {2}}` and `{1, 2}`, `{1}, {2}` too."""
    sets = in_braces(a) + in_braces(b)
    listed = sets == 1 and all(in_braces(n) or (isinstance(n, Seq) and not n.left) for n in (a, b))
    return (sets == 2 or listed) and sets_held(a) != sets_held(b)


def in_braces(node: Node) -> bool:
    """Whether it is a set, written out."""
    return node == Const("emptyset") or (isinstance(node, Seq) and node.left == "\\{")


def sets_held(node: Node) -> int:
    """How many of its elements are sets."""
    return sum(map(in_braces, node.items)) if isinstance(node, Seq) else 0


def same_set(a: Pieces, b: Pieces) -> bool:
    """Whether two sets have the same pieces."""
    return len(a) == len(b) and all(
        p.low_in == q.low_in and p.high_in == q.high_in and _same_end(p.low, q.low) and _same_end(p.high, q.high)
        for p, q in zip(a, b, strict=True)
    )


def _set(node: Node) -> Pieces | None:
    if isinstance(node, Const):
        return [Piece(-mp.inf, False, mp.inf, False)] if node.name == "R" else [] if node.name == "emptyset" else None
    if isinstance(node, Seq):
        return _sequence(node)
    if isinstance(node, Rel):
        return _relation(node)
    if isinstance(node, Op):
        return _operation(node)
    return None


def _sequence(node: Seq) -> Pieces | None:
    if node.left in ("(", "[") and len(node.items) == 2:
        low, high = (_real(i) for i in node.items)
        if low is None or high is None or low > high:
            return None
        return [Piece(low, node.left == "[", high, node.right == "]")]
    if node.left == "\\{":
        values = [_real(i) for i in node.items]
        return None if any(v is None for v in values) else [Piece(v, True, v, True) for v in values]
    if node.left == "" and (node.right != "," or all(isinstance(i, Rel) and i.ops != ("in",) for i in node.items)):
        parts = [_set(i) for i in node.items]
        if any(p is None for p in parts) or len({relations.unknown(i) for i in node.items if isinstance(i, Rel)}) > 1:
            return None
        left_out = [isinstance(i, Rel) and i.ops == ("!=",) for i in node.items]
        kept = [p for p, out in zip(parts, left_out, strict=True) if p is not None and not out]
        taken = (node.right == "," and _combined(kept, "and")) or _combined(kept, node.right)  # x > 0, x < 2 is both
        return _combined([taken, *(p for p, out in zip(parts, left_out, strict=True) if p is not None and out)], "and")
    return None


def _combined(parts: list[Pieces], join: str) -> Pieces:
    result = parts[0] if parts else [Piece(-mp.inf, False, mp.inf, False)]
    for part in parts[1:]:
        result = _meet(result, part) if join == "and" else result + part
    return result


def _operation(node: Op) -> Pieces | None:
    if node.op == "builder":
        return _set(node.args[0])
    if node.op not in ("cup", "cap", "setminus"):
        return None
    left, right = _set(node.args[0]), _set(node.args[1])
    if left is None or right is None:
        return None
    if node.op == "cup":
        return left + right
    return _meet(left, right if node.op == "cap" else _complement(_merged(right)))


def _relation(node: Rel) -> Pieces | None:
    if node.ops == ("in",):
        return _set(node.parts[1]) if node.names[0] or isinstance(node.parts[0], Sym) else None
    if not all(op in _FLIP for op in node.ops):
        return None
    names = set().union(*(symbols(p) for p, n in zip(node.parts, node.names, strict=True) if not n))
    labels = {n for n in node.names if n}
    if len(names | labels) != 1 and not (len(labels) == 1 and not names):
        return None
    result: Pieces = [Piece(-mp.inf, False, mp.inf, False)]
    for k, op in enumerate(node.ops):
        sides = [
            Sym("?") if node.names[j] else replace(node.parts[j], dict.fromkeys(names, Sym("?"))) for j in (k, k + 1)
        ]
        solved = _solve(sides[0], op, sides[1])
        if solved is None:
            return None
        result = _meet(result, solved)
    return result


def _solve(left: Node, op: str, right: Node) -> Pieces | None:
    """`left op right` solved for `?` where both sides are linear in it, or one is the absolute value of what is."""
    if isinstance(right, Op) and right.op == "abs" and op in _FLIP:
        return _solve(right, _FLIP[op], left)
    if isinstance(left, Op) and left.op == "abs" and not symbols(right) and op != "!=":
        minus = Op("neg", (right,))
        first, second = _solve(left.args[0], op, right), _solve(left.args[0], _FLIP[op], minus)
        if first is None or second is None:
            return None
        return _meet(first, second) if op in ("<", "<=") else first + second
    values = []
    for at in (0, 1, 2):
        x, y = (value_at(side, {"?": mp.mpf(at)}) for side in (left, right))
        if x is None or y is None or mp.im(x) or mp.im(y):
            return None
        values.append(x - y)
    slope = values[1] - values[0]
    if not mp.isfinite(slope):
        return None
    if abs(values[2] - values[1] - slope) > abs(slope) * mp.mpf(10) ** -30 or slope == 0:
        return None
    end = -values[0] / slope
    if op == "!=":
        return [Piece(-mp.inf, False, end, False), Piece(end, False, mp.inf, False)]
    above = (op in (">", ">=")) == (slope > 0)
    closed = op in ("<=", ">=")
    return [Piece(end, closed, mp.inf, False) if above else Piece(-mp.inf, False, end, closed)]


def _real(node: Node) -> Any:
    value = value_at(node, {})
    return None if value is None or mp.im(value) != 0 else mp.re(value)


def _meet(a: Pieces, b: Pieces) -> Pieces:
    pieces = []
    for p in a:
        for q in b:
            low, low_in = max((p.low, not p.low_in), (q.low, not q.low_in))
            high, high_in = min((p.high, p.high_in), (q.high, q.high_in))
            if low < high or (low == high and not low_in and high_in):
                pieces.append(Piece(low, not low_in, high, high_in))
    return pieces


def _complement(pieces: Pieces) -> Pieces:
    gaps, low, low_in = [], -mp.inf, False
    for piece in pieces:
        if piece.low > low or (piece.low == low and low_in and not piece.low_in):
            gaps.append(Piece(low, low_in, piece.low, not piece.low_in))
        low, low_in = piece.high, not piece.high_in
    if low < mp.inf:
        gaps.append(Piece(low, low_in, mp.inf, False))
    return gaps


def _merged(pieces: Pieces) -> Pieces:
    merged: Pieces = []
    for piece in sorted(pieces, key=lambda p: (p.low, not p.low_in)):
        last = merged[-1] if merged else None
        touches = last is not None and (
            piece.low < last.high or (_same_end(piece.low, last.high) and (piece.low_in or last.high_in))
        )
        if last is None or not touches:
            merged.append(piece)
        else:
            high, high_in = max((last.high, last.high_in), (piece.high, piece.high_in))
            merged[-1] = Piece(last.low, last.low_in, high, high_in)
    return merged


def _same_end(a: Any, b: Any) -> bool:
    return bool(a == b or (mp.isfinite(a) and mp.isfinite(b) and abs(a - b) <= max(abs(a), abs(b)) * mp.mpf(10) ** -30))
