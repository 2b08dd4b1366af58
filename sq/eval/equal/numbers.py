"""When one number answers another: exactly, within a stated tolerance, or as a long enough decimal; units and percent.

A rounded decimal is no exact answer: `33.3` is not 100/3. A decimal with at least six places that is the correct
rounding of the exact value is, as is a float written out to its last digit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from mpmath import mp  # type: ignore[import-untyped]

from sq.eval.equal import units
from sq.eval.equal.identity import decimal_of, same, value_at
from sq.eval.equal.rational import exact
from sq.eval.equal.tree import Base, Const, Node, Num, Op, Quantity, Sym, mapped, symbols
from sq.eval.equal.value import Uncomputable

ROUNDED_PLACES = 6
"""Places a decimal must show to stand for a value it cannot write exactly."""
_MAY_MEAN = {
    "gbp": re.compile("pounds?", re.IGNORECASE),
    "celsius": re.compile(r"^C$"),
    "fahrenheit": re.compile(r"^F$"),
}
"""What a unit may be beside one of a kind: `25 pounds` is money beside gbp, and `25 lb` never is."""
FLOAT_DIGITS = 12
"""Digits from which a decimal is taken for a float and compared to a relative 1e-11."""


class Tolerance(NamedTuple):
    """The error that a reference allows: one for all of its values, or one for each of them."""

    absolute: float | Sequence[float] | None = None
    relative: float | Sequence[float] | None = None

    def of_value(self, index: int, count: int) -> Tolerance:
        """The error that one of `count` values allows: none where there are errors for another number of values."""
        each = ([e] * count if isinstance(e, float | int | None) else list(e) for e in self)
        return Tolerance(*(errors[index] if len(errors) == count else None for errors in each))

    def allows(self, gap: Any, reference: Any) -> bool:
        """Whether an answer may be `gap` away from the value of its reference."""
        absolute, relative = (0 if e is None or isinstance(e, Sequence) else e for e in self)
        allowed = max(absolute, relative * abs(reference))
        return bool(allowed and gap <= allowed * (1 + mp.mpf(10) ** -9))


EXACT = Tolerance()


def same_number(a: Node, b: Node, tolerance: Tolerance = EXACT) -> bool:
    """Whether `a` answers `b`, both expressions without units."""
    try:
        if same(a, b):
            return True
    except Uncomputable:
        return False
    return not (symbols(a) | symbols(b)) and _near(a, b, tolerance)


def same_quantity(a: Node, b: Node, tolerance: Tolerance = EXACT) -> bool:
    """Whether `a` answers `b` where either may carry a unit, a percent sign or degrees."""
    a, b = _measured(a, b), _measured(b, a)
    x, unit_a = (a.value, a.unit) if isinstance(a, Quantity) else (a, "")
    y, unit_b = (b.value, b.unit) if isinstance(b, Quantity) else (b, "")
    percents = units.is_percent(unit_a), units.is_percent(unit_b)
    if any(percents):
        if all(percents) or (unit_a and unit_b):  # 25% is not 25 cm
            return all(percents) and same_number(x, y, tolerance)
        return (not _proper_fraction(x, y) and same_number(x, y, tolerance)) or same_number(a, b)
    if "degree" in (unit_a, unit_b) and not (unit_a and unit_b):
        return same_number(x, y, tolerance) or same_number(a, b, tolerance)
    if not unit_a or not unit_b:
        return same_number(x, y, tolerance)
    left, right = units.canonical(unit_a), units.canonical(unit_b)
    for kind, name in _MAY_MEAN.items():
        if left and right and left != right and ((kind, 1),) in (left.kinds, right.kinds):
            left, right = (units.canonical(name.sub(kind, unit)) for unit in (unit_a, unit_b))
    if left is None or right is None:
        powers = [re.findall(r"\^\s*\{?(-?\d+)", unit) for unit in (unit_a, unit_b)]
        return not (all(powers) and powers[0] != powers[1]) and same_number(x, y, tolerance)
    if left.kinds != right.kinds:
        return False
    ratio = left.factor / right.factor
    pis = left.pi_power - right.pi_power
    x = x if ratio == 1 else Op("mul", (x, Num(ratio)))
    return same_number(Op("mul", (x, Op("pow", (Const("pi"), Num(Fraction(pis)))))) if pis else x, y, tolerance)


def _proper_fraction(*sides: Node) -> bool:
    """Whether both are fractions below 1: `3/7 %` is not 3/7, though `25%` answers 25."""
    return all(isinstance(n, Op) and n.op == "div" and 0 < (exact(n) or 1) < 1 for n in sides)


def same_base(a: Node, b: Node) -> bool:
    """Numbers in a written base: the same digits in the same base; the prediction may leave the base out."""
    if isinstance(a, Base) and isinstance(b, Base) and a.base != b.base and 10 in (a.base, b.base):
        return same_number(a, b)
    a, b = _plain_ten(a), _plain_ten(b)
    if isinstance(a, Base) and isinstance(b, Base):
        return a.base == b.base and a.digits.lstrip("0") == b.digits.lstrip("0")
    if isinstance(b, Base):
        return isinstance(a, Num | Op) and "".join(_digits(a)) == b.digits
    return not isinstance(a, Base) and same_number(a, b)


def _plain_ten(node: Node) -> Node:
    ten = isinstance(node, Base) and node.base == 10 and node.digits.isdecimal()
    return Num(Fraction(int(node.digits))) if isinstance(node, Base) and ten else node


def _digits(node: Node) -> list[str]:
    """The digits of a number, or of `1A` read as a product."""
    if isinstance(node, Num):
        return [str(node.value)]
    if isinstance(node, Sym):
        return [node.name]
    if isinstance(node, Op) and node.op == "mul":
        return [d for arg in node.args for d in _digits(arg)]
    return ["?"]


def without_unit_letter(node: Node) -> Node:
    """`5m` as 5 where a single letter that may be a unit ends a product; used on a prediction only."""
    quantity = as_quantity(node)
    return quantity.value if isinstance(quantity, Quantity) and not isinstance(node, Quantity) else node


def without_degrees(node: Node) -> Node:
    """Degree signs off where they stand among terms: `180^{circ} - x` is `180 - x` to who writes no signs."""
    if isinstance(node, Quantity) and node.unit == "degree":
        return node.value
    return mapped(node, without_degrees) if isinstance(node, Op) and node.op in ("add", "mul", "neg", "div") else node


def as_quantity(node: Node) -> Node:
    """A number times a letter that may be a unit (`0.5 m`, `3 m^2`) as a quantity; other nodes as they are."""
    if isinstance(node, Op) and node.op == "mul" and len(node.args) == 2 and not symbols(node.args[0]):
        value, last = node.args
        power = ""
        if isinstance(last, Op) and last.op == "pow":
            last, exponent = last.args
            power = f"^{exact(exponent)}"
        if isinstance(last, Sym) and last.name in units.SINGLE:
            return Quantity(value, f"{last.name} {power}".strip())
    return node


def _measured(node: Node, other: Node) -> Node:
    """As `as_quantity`, and with letters of units in a quotient: `9.8 m/s^2`; beside a number with a unit only."""
    if not isinstance(other, Quantity) or symbols(other):
        return node
    simple = as_quantity(node)
    if isinstance(simple, Quantity) or not isinstance(node, Op) or node.op not in ("mul", "div"):
        return simple
    values: list[Node] = []
    unit = _units_in(node, values)
    return Quantity(values[0], unit) if unit and len(values) == 1 else node


def _units_in(node: Node, values: list[Node]) -> str:
    """The unit that the letters of a product or quotient write; its one number goes to `values`."""
    if isinstance(node, Op) and node.op in ("mul", "div"):
        left, right = (_units_in(a, values) for a in node.args)
        return f"{left} {'/' if node.op == 'div' and right else ''} {right}".strip()
    base, power = node.args if isinstance(node, Op) and node.op == "pow" else (node, None)
    if isinstance(base, Sym) and base.name in units.SINGLE:
        return base.name if power is None else f"{base.name} ^{exact(power)}"
    values.extend([node] if not symbols(node) else [node, node])
    return ""


def _near(a: Node, b: Node, tolerance: Tolerance) -> bool:
    written_a, written_b = decimal_of(a), decimal_of(b)
    if tolerance == EXACT and written_a is None and written_b is None:
        return False
    with mp.workdps(50):
        x, y = value_at(a, {}), value_at(b, {})
        if x is None or y is None:
            return False
        gap, scale = abs(x - y), max(abs(x), abs(y))
        if tolerance.allows(gap, y):
            return True
        digits = max(written_a.digits if written_a else 0, written_b.digits if written_b else 0)
        if digits >= FLOAT_DIGITS and gap <= scale * mp.mpf(10) ** -11:
            return True
        if written_a is not None and not _terminates(b):
            return _rounds(written_a, y)
        return written_b is not None and not _terminates(a) and _rounds(written_b, x)


def _rounds(written: Num, value: object) -> bool:
    if written.places < ROUNDED_PLACES or written.digits < ROUNDED_PLACES:
        return False
    value_shown = mp.mpf(written.value.numerator) / written.value.denominator
    return bool(abs(value_shown - value) <= mp.mpf(10) ** -written.places * (mp.mpf(1) / 2 + mp.mpf(10) ** -9))


def _terminates(node: Node) -> bool:
    """Whether the value has a finite decimal expansion, so that it can be written exactly."""
    value = exact(node)
    if value is None:
        return False
    bottom = value.denominator
    for prime in (2, 5):
        while bottom % prime == 0:
            bottom //= prime
    return bottom == 1
