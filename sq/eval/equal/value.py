"""The value of an expression at a given point, to as many digits as `mpmath` is set to.

Every size is looked at before anything is computed: exponents, factorials, binomials, arguments of trigonometric
functions, terms of sums. What is too large is `Uncomputable`, at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import mpmath  # type: ignore[import-untyped]
from mpmath import mp

from sq.eval.equal.tree import Base, Const, Node, Num, Op, Quantity, Sym

MAX_LOG2 = 2**40
"""Size of the logarithm of a power, to the base 2."""
MAX_ARGUMENT = 400
"""log2 of the largest number whose sine or floor is taken."""
MAX_STEPS = 20_000
"""Operations in one evaluation, the terms of sums included."""


class Uncomputable(ValueError):
    """Too large to compute, undefined, or no number."""


class Evaluator:
    """Values of nodes at one point.

    Args:
        point: a value for each variable.
        log10: read a bare `log` as the decimal logarithm.
        real: stay within the real numbers; a root of a negative number has no value.
    """

    def __init__(self, point: Mapping[str, Any], *, log10: bool = False, real: bool = False) -> None:
        self.point = dict(point)
        self.log10 = log10
        self.real = real
        self.steps = 0

    def __call__(self, node: Node) -> Any:
        """The value.

        Raises:
            Uncomputable: where there is none, or none that is cheap.
        """
        try:
            value = self.of(node)
        except (ArithmeticError, ValueError, TypeError, NotImplementedError) as error:
            raise Uncomputable(str(error)) from error
        if not isinstance(value, mpmath.mpf | mpmath.mpc) or not mp.isfinite(value):
            if isinstance(value, mpmath.mpf) and mp.isinf(value):
                return value
            raise Uncomputable("not a number")
        return value

    def of(self, node: Node) -> Any:
        """The value, with whatever exception computing it raises."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Uncomputable("too many operations")
        if isinstance(node, Num):
            return mp.mpf(node.value.numerator) / node.value.denominator
        if isinstance(node, Sym):
            return self.point[node.name] if node.name in self.point else _missing(node.name)
        if isinstance(node, Const):
            return _constant(node.name)
        if isinstance(node, Quantity):
            return self.quantity(node)
        if isinstance(node, Base):
            return mp.mpf(int(node.digits, node.base))
        if isinstance(node, Op):
            return self.operation(node)
        raise Uncomputable("no number")

    def quantity(self, node: Quantity) -> Any:
        """A value with percent or degrees applied; other units are the caller's business."""
        value = self.of(node.value)
        if node.unit == "percent":
            return value / 100
        return value * mp.pi / 180 if node.unit == "degree" else value

    def operation(self, node: Op) -> Any:
        """The value of an operation."""
        if node.op in ("sum", "prod"):
            return self.series(node)
        if node.op == "call":
            return self.called(node)
        if node.op == "log" and len(node.args) == 1 and self.log10:
            return mp.log10(_nonzero(self.of(node.args[0])))
        rule = _RULES.get(node.op)
        if rule is None:
            raise Uncomputable(f"{node.op} has no value")
        value = rule(*(self.of(a) for a in node.args))
        if self.real and mp.im(value) != 0:
            raise Uncomputable("not real")
        return value

    def called(self, node: Op) -> Any:
        """An unknown function: some fixed number for each argument."""
        name = node.args[0]
        key = ",".join(mp.nstr(mp.mpc(self.of(a)), 20) for a in node.args[1:])
        return mp.mpf(random.Random(f"{name}:{key}").randint(10**6, 10**7)) / 3_141_593

    def series(self, node: Op) -> Any:
        """A sum or product over few enough terms."""
        variable, first, last, body = node.args
        start, stop = self.of(first), self.of(last)
        if not isinstance(variable, Sym) or not (mp.isint(start) and mp.isint(stop)) or abs(stop - start) > 1_000:
            raise Uncomputable("a sum without few whole steps")
        outer = self.point.get(variable.name)
        total = mp.mpf(0 if node.op == "sum" else 1)
        for k in range(int(start), int(stop) + 1):
            self.point[variable.name] = mp.mpf(k)
            total = total + self.of(body) if node.op == "sum" else total * self.of(body)
        self.point.pop(variable.name, None)
        if outer is not None:
            self.point[variable.name] = outer
        return total


def _missing(name: str) -> Any:
    raise Uncomputable(f"no value for {name}")


def _constant(name: str) -> Any:
    values = {"pi": mp.pi, "e": mp.e, "inf": mp.inf, "i": mp.mpc(0, 1)}
    if name not in values:
        raise Uncomputable(f"{name} is no number")
    return +values[name]


def _mag(value: Any) -> int:
    size = mp.mag(value)
    return int(size) if mp.isfinite(size) else (-(10**9) if size < 0 else 10**18)


def _bounded(value: Any, limit: int = MAX_ARGUMENT) -> Any:
    if _mag(value) > limit:
        raise Uncomputable("an argument is too large")
    return value


def _nonzero(value: Any) -> Any:
    if value == 0:
        raise Uncomputable("undefined at zero")
    return value


def _pow(base: Any, exponent: Any) -> Any:
    if base == 0:
        if mp.re(exponent) <= 0:
            raise Uncomputable("zero to no positive power")
        return mp.mpf(0)
    if mp.isinf(base) or mp.isinf(exponent):
        raise Uncomputable("a power of infinity")
    _bounded(exponent, 45)
    if abs(exponent) * (abs(_mag(base)) + 1) > MAX_LOG2:
        raise Uncomputable("a power is too large")
    return mp.power(base, exponent)


def _exp(value: Any) -> Any:
    return mp.exp(_bounded(value, 40))


def _fact(value: Any) -> Any:
    _bounded(value, 40)
    if mp.im(value) == 0 and mp.re(value) < 0 and mp.isint(value):
        raise Uncomputable("factorial of a negative number")
    return mp.gamma(value + 1)


def _choose(n: Any, k: Any) -> Any:
    return mp.binomial(_bounded(n, 40), _bounded(k, 40))


def _real_root(value: Any, index: Any) -> Any:
    if mp.isint(index) and int(_bounded(index, 30)) % 2 and mp.im(value) == 0 and value < 0:
        return -_pow(-value, 1 / index)
    return _pow(value, 1 / _nonzero(index))


def _of_bounded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: function(_bounded(value))


def _divide(a: Any, b: Any) -> Any:
    return a / _nonzero(b)


def _arccot(value: Any) -> Any:
    return mp.pi / 2 - mp.atan(value)


_RULES: dict[str, Callable[..., Any]] = {
    "add": lambda *a: mp.fsum(a), "mul": lambda a, b: a * b, "neg": lambda a: -a, "div": _divide, "pow": _pow,
    "ratio": _divide, "sqrt": lambda a: mp.sqrt(a), "root": _real_root, "fact": _fact, "binom": _choose, "exp": _exp,
    "abs": lambda a: abs(a), "ln": lambda a: mp.log(_nonzero(a)), "lg": lambda a: mp.log10(_nonzero(a)),
    "log": lambda a, b=None: mp.log(_nonzero(a)) if b is None else mp.log(_nonzero(a)) / _nonzero(mp.log(_nonzero(b))),
    "lfloor": _of_bounded(mp.floor), "floor": _of_bounded(mp.floor), "lceil": _of_bounded(mp.ceil),
    "ceil": _of_bounded(mp.ceil),
    "arcsin": mp.asin, "arccos": mp.acos, "arctan": mp.atan, "arccot": _arccot, "asin": mp.asin,
    "acos": mp.acos, "atan": mp.atan, "arcsec": lambda a: mp.acos(1 / _nonzero(a)),
    "arccsc": lambda a: mp.asin(1 / _nonzero(a)), "arcsinh": mp.asinh, "arccosh": mp.acosh, "arctanh": mp.atanh,
    "sin": _of_bounded(mp.sin), "cos": _of_bounded(mp.cos), "tan": _of_bounded(mp.tan), "cot": _of_bounded(mp.cot),
    "cis": lambda a: mp.expj(_bounded(a)), "sec": _of_bounded(mp.sec), "csc": _of_bounded(mp.csc),
    "sinh": lambda a: mp.sinh(_bounded(a, 40)), "cosh": lambda a: mp.cosh(_bounded(a, 40)),
    "tanh": lambda a: mp.tanh(_bounded(a, 40)),
    "sech": lambda a: 1 / mp.cosh(_bounded(a, 40)), "csch": lambda a: 1 / mp.sinh(_bounded(a, 40)),
    "coth": lambda a: mp.coth(_bounded(a, 40)),
}  # fmt: skip
