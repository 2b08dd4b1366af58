"""The exact value of an expression that is rational, where computing it is cheap; sizes are looked at first."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import comb, factorial, isqrt

from sq.eval.equal.tree import Node, Num, Op, Quantity

MAX_BITS = 40_000
"""Size of an exact integer."""


def exact(node: Node) -> Fraction | None:
    """The rational value of a node without variables, or None where it has no rational value that is cheap."""
    if isinstance(node, Num):
        return node.value
    if isinstance(node, Quantity) and node.unit == "percent":
        value = exact(node.value)
        return None if value is None else value / 100
    if not isinstance(node, Op):
        return None
    rule = _EXACT.get(node.op)
    if rule is None:
        return None
    args: list[Fraction] = []
    for arg in node.args:
        value = exact(arg)
        if value is None:
            return None
        args.append(value)
    result = rule(*args)
    if result is not None and max(result.numerator.bit_length(), result.denominator.bit_length()) > MAX_BITS:
        return None
    return result


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        if exponent.denominator == 2 and base >= 0 and abs(exponent) < 1000:
            root = _root(base)
            return None if root is None else _power(root, exponent * 2)
        return None
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if size * abs(exponent) > MAX_BITS or (base == 0 and exponent <= 0):
        return None
    return Fraction(base ** int(exponent))


def _root(value: Fraction) -> Fraction | None:
    if value < 0:
        return None
    top, bottom = isqrt(value.numerator), isqrt(value.denominator)
    return Fraction(top, bottom) if top * top == value.numerator and bottom * bottom == value.denominator else None


def _factorial(value: Fraction) -> Fraction | None:
    return Fraction(factorial(int(value))) if value.denominator == 1 and 0 <= value <= 2_000 else None


def _binomial(n: Fraction, k: Fraction) -> Fraction | None:
    if n.denominator != 1 or k.denominator != 1 or not 0 <= k <= n <= 5_000:
        return None
    return Fraction(comb(int(n), int(k)))


def _product(*args: Fraction) -> Fraction:
    result = Fraction(1)
    for arg in args:
        result *= arg
    return result


_EXACT: dict[str, Callable[..., Fraction | None]] = {
    "add": lambda *a: sum(a, Fraction(0)),
    "mul": _product,
    "neg": lambda a: -a,
    "div": lambda a, b: a / b if b else None,
    "ratio": lambda *a: a[0] / a[1] if len(a) == 2 and a[1] else None,
    "pow": _power,
    "sqrt": _root,
    "fact": _factorial,
    "binom": _binomial,
    "abs": abs,
    "lfloor": lambda a: Fraction(a.__floor__()),
    "floor": lambda a: Fraction(a.__floor__()),
    "lceil": lambda a: Fraction(a.__ceil__()),
    "ceil": lambda a: Fraction(a.__ceil__()),
}
