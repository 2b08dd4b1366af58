"""Whether two expressions are one: exactly where both are rational, else by their values at many points.

Two different expressions of the size of an answer agree to thirty digits at one random point with no chance worth
naming; here they must agree at every point where both are real. The points are fixed by the names of the variables,
so a grade never changes from run to run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from mpmath import mp  # type: ignore[import-untyped]

from sq.eval.equal.rational import exact
from sq.eval.equal.tree import Const, Node, Num, Op, symbols, walk
from sq.eval.equal.value import Evaluator, Uncomputable

DIGITS = 50
MAX_DIGITS = 1_500
_STEPPED = frozenset({"lfloor", "lceil", "floor", "ceil", "sum", "prod", "binom", "fact"})
_WHOLE_NAMES = frozenset("n k m N K M j l p q r".split())
_RANGES = ((0.2, 1.9), (1.1, 6.0), (2.5, 14.0), (0.05, 0.95), (-3.0, 3.0), (-9.0, -0.3), (-1.5, 0.9))


def same(a: Node, b: Node, *, everywhere: bool = False) -> bool:
    """Whether two expressions are equal wherever both have a real value.

    Args:
        a: one.
        b: the other.
        everywhere: they must be equal where their values are complex, too.

    Raises:
        Uncomputable: where neither can be computed at enough points.
    """
    if a == b:
        return True
    left, right = exact(a), exact(b)
    if left is not None and right is not None:
        return left == right
    if everywhere:
        return _equal_everywhere(a, b)
    if any(n == Op("log", n.args) and len(n.args) == 1 for side in (a, b) for n in walk(side) if isinstance(n, Op)):
        return _same_at_points(a, b, log10=False) or _same_at_points(a, b, log10=True)
    return _same_at_points(a, b, log10=False)


def _equal_everywhere(a: Node, b: Node) -> bool:
    with mp.workdps(DIGITS):
        agrees = None
        for trial, point in enumerate(points(symbols(a) | symbols(b))):
            turned = {name: _turned(value, k * trial) for k, (name, value) in enumerate(point.items(), 1)}
            x, y = value_at(a, turned), value_at(b, turned)
            if x is None or y is None:
                continue
            agrees = close(a, b, x, y, turned)
            if not agrees:
                break
    if agrees is None:
        raise Uncomputable("no point where both have a value")
    return agrees


def _turned(value: Any, angle: int) -> Any:
    """A value turned in the complex plane; the first ones are the negative numbers, where roots jump."""
    return value * mp.expj(angle) if angle else -abs(value)


def points(names: frozenset[str], *, whole: bool = False) -> Iterator[dict[str, Any]]:
    """Points to try; with no variables there is one."""
    if not names:
        yield {}
        return
    for trial, (low, high) in enumerate(_RANGES):
        point = {}
        for name in sorted(names):
            draw = random.Random(f"{name}/{trial}")
            if whole:
                point[name] = mp.mpf(draw.randint(2, 9 + trial))
            else:
                value = Fraction(draw.randint(1, 10**6), 10**6) * Fraction(high - low) + Fraction(low)
                point[name] = mp.mpf(value.numerator) / value.denominator
        yield point


def value_at(node: Node, point: dict[str, Any], *, log10: bool = False, real: bool = False) -> Any:
    """The value at a point, or None where there is none."""
    try:
        return Evaluator(point, log10=log10, real=real)(node)
    except Uncomputable:
        return None


def _same_at_points(a: Node, b: Node, *, log10: bool) -> bool:
    names = symbols(a) | symbols(b)
    with mp.workdps(DIGITS):
        agrees = _agree(a, b, names, log10=log10, whole=False)
        if not agrees and names and names <= _WHOLE_NAMES and _is_stepped(a, b):
            agrees = _agree(a, b, names, log10=log10, whole=True)
    if agrees is None:
        if arranged(a) == arranged(b):
            return True
        raise Uncomputable("no point where both have a value")
    return agrees


def arranged(node: Node) -> Node:
    """The same sums and products with their parts in one order: `F_k G` is `G F_k`."""
    if not isinstance(node, Op):
        return node
    args = [arranged(arg) for arg in node.args]
    if node.op in ("add", "mul"):
        flat = [p for arg in args for p in (arg.args if isinstance(arg, Op) and arg.op == node.op else (arg,))]
        return Op(node.op, tuple(sorted(flat, key=repr)))
    return Op(node.op, tuple(args))


def _agree(a: Node, b: Node, names: frozenset[str], *, log10: bool, whole: bool) -> bool | None:
    """Whether both agree at every point where both are real; where none is, at every point."""
    real = bool(names) and not any(n == Const("i") for side in (a, b) for n in walk(side))
    for within_reals in (True, False) if real else (False,):
        compared = 0
        for point in points(names, whole=whole):
            x = value_at(a, point, log10=log10, real=within_reals)
            y = None if x is None else value_at(b, point, log10=log10, real=within_reals)
            if y is None:
                continue
            compared += 1
            if not close(a, b, x, y, point, log10=log10):
                return False
        if compared:
            return True
    return None


def close(a: Node, b: Node, x: Any, y: Any, point: dict[str, Any], *, log10: bool = False) -> bool:
    """Whether two values are one number, computed with more digits where their size or a cancellation asks for it."""
    if mp.isinf(x) or mp.isinf(y):
        return bool(x == y)
    gap, scale = abs(x - y), max(abs(x), abs(y))
    if gap <= scale * mp.mpf(10) ** -30:
        size = int(mp.mag(scale)) if scale else 0
        return size < 130 or _closer(a, b, point, DIGITS + size // 3, log10=log10)
    return bool(gap < mp.mpf(10) ** -20) and _vanishes(a, b, point, gap, log10=log10)


def _closer(a: Node, b: Node, point: dict[str, Any], digits: int, *, log10: bool) -> bool:
    """Whether two large values agree to the last of the digits they have before the point, too."""
    if digits > MAX_DIGITS:
        return a == b
    with mp.workdps(digits):
        x, y = value_at(a, point, log10=log10), value_at(b, point, log10=log10)
        return x is not None and y is not None and bool(abs(x - y) <= abs(x) * mp.mpf(10) ** (15 - digits))


def _vanishes(a: Node, b: Node, point: dict[str, Any], gap: Any, *, log10: bool) -> bool:
    """Whether a tiny difference is rounding: with more digits it shrinks, a real difference stays."""
    with mp.workdps(4 * DIGITS):
        x, y = value_at(a, point, log10=log10), value_at(b, point, log10=log10)
        return x is not None and y is not None and bool(abs(x - y) <= gap * mp.mpf(10) ** -20)


def _is_stepped(*nodes: Node) -> bool:
    for node in nodes:
        for part in walk(node):
            if not isinstance(part, Op):
                continue
            if part.op in _STEPPED:
                return True
            if part.op == "pow" and symbols(part.args[1]):
                base = exact(part.args[0])
                if base is not None and base < 0:
                    return True
            if part.op in ("sin", "cos", "tan") and any(n == Const("pi") for n in walk(part)):
                return True
    return False


def decimal_of(node: Node) -> Num | None:
    """The node as a written decimal with its sign, where it is one."""
    sign = 1
    while isinstance(node, Op) and node.op == "neg":
        sign, node = -sign, node.args[0]
    if isinstance(node, Num) and node.digits:
        return node._replace(value=sign * node.value)
    if isinstance(node, Op) and node.op == "mul" and len(node.args) == 2 and isinstance(node.args[0], Num):
        value = exact(node)  # 7.8 x 10^2
        if value is not None and node.args[0].digits:
            return Num(sign * value, node.args[0].digits, 0)
    return None
