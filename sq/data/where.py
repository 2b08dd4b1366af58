"""Which rows of a source are taken, by an expression over their columns: `fail_rate >= 0.5 and level != 'easy'`.

A small language in Python's own spelling. The text is parsed and each node that is allowed becomes a closure, so
nothing of it is ever run as Python: no calls but those below, no attributes, no indexing, no powers. A column without a
value is null: it is equal to `None` alone, and no ordering, `in` or arithmetic with it holds, as in SQL.
"""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sq.core.config import nearest
from sq.core.errors import RowError

Evaluate: TypeAlias = Callable[[Mapping[str, Any]], Any]

MOST_CHARACTERS = 2_000
LANGUAGE = (
    "it may use columns, numbers, texts, lists, == != < <= > >= in, and or not, + - * / %, len() lower() float() abs()"
)
_ORDER = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
_EQUAL = {ast.Eq: True, ast.Is: True, ast.NotEq: False, ast.IsNot: False}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"len": len, "lower": str.lower, "float": float, "abs": abs}


class RowFilter:
    """A condition on rows. Building it checks the expression.

    Raises:
        ValueError: naming what the expression may not hold.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"where has {len(text):,} characters; {MOST_CHARACTERS:,} are allowed")
        try:
            body = ast.parse(text.strip(), mode="eval").body
            if isinstance(body, ast.Constant | ast.List | ast.Tuple):
                raise ValueError(f"where={text!r} asks nothing of a row; compare a column: fail_rate >= 0.5")
            self._test = _compile(body)
        except SyntaxError as error:
            raise ValueError(f"where={text!r} is no expression ({error.msg}, at {error.offset}); {LANGUAGE}") from None
        except (RecursionError, MemoryError):
            raise ValueError(f"where={text[:60]!r}... is nested too deeply") from None
        self._columns_checked = False
        self.columns = sorted({node.id for node in ast.walk(body) if isinstance(node, ast.Name)} - _FUNCTIONS.keys())

    def problem(self, row: Mapping[str, Any], place: str) -> tuple[str, str] | None:
        """Why the row is not taken, as a reason and its detail; None where it is. The first row must have the columns.

        Raises:
            RowError: naming the place, the column and its value, where the expression cannot be applied.
        """
        if not self._columns_checked:
            self._check_columns(row, place)
            self._columns_checked = True
        try:
            return None if self._test(row) else ("left_out", f"not where {self.text}")
        except (_WrongValueError, RecursionError) as error:
            raise RowError(f"{place}: where={self.text!r}: {error}") from None

    def _check_columns(self, row: Mapping[str, Any], place: str) -> None:
        there = [*row, *_extra(row)]
        for name in self.columns:
            if name not in there:
                raise RowError(
                    f"{place} has no column '{name}', which where={self.text!r} asks for{nearest(name, there) or '.'} "
                    f"It has: {', '.join(sorted(there))}"
                )


class _WrongValueError(Exception):
    """A value that an operation of the expression cannot take."""


def _compile(node: ast.expr) -> Evaluate:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return lambda row: value
        case ast.Name(id=name):
            return lambda row: row[name] if name in row else _extra(row).get(name)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            values = [_compile(element) for element in elements]
            return lambda row: [value(row) for value in values]
        case ast.BoolOp(op=ast.And() | ast.Or() as op, values=operands):
            tests, every = [_compile(operand) for operand in operands], isinstance(op, ast.And)
            return lambda row: (all if every else any)(test(row) for test in tests)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _compile(operand)
            return lambda row: not inner(row)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _arithmetic(node, operator.sub, ast.Constant(0), operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _arithmetic(node, _ARITHMETIC[type(op)], left, right)
        case ast.Compare(left=left, ops=ops, comparators=others):
            pairs = zip([left, *others[:-1]], ops, others, strict=True)
            links = [_comparison(one, op, other) for one, op, other in pairs]
            return lambda row: all(link(row) for link in links)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            return _call(name, argument)
    raise ValueError(f"where may not hold {ast.unparse(node)!r} ({type(node).__name__}); {LANGUAGE}")


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr) -> Evaluate:
    one, other = _compile(left), _compile(right)
    if type(op) in _EQUAL:
        same = _EQUAL[type(op)]
        return lambda row: (one(row) == other(row)) is same
    if isinstance(op, ast.In | ast.NotIn):
        wanted = isinstance(op, ast.In)

        def member(row: Mapping[str, Any]) -> bool:
            value, container = one(row), other(row)
            if value is None or container is None:
                return False
            if not isinstance(container, list) and not (isinstance(container, str) and isinstance(value, str)):
                raise _refusal(right, container, f"in which {_shown(value)} cannot be; give a list, as ['a', 'b']")
            return (value in container) is wanted

        return member
    compare = _ORDER[type(op)]

    def ordered(row: Mapping[str, Any]) -> bool:
        a, b = one(row), other(row)
        if a is None or b is None:
            return False
        if not (_is_number(a) and _is_number(b)) and not (isinstance(a, str) and isinstance(b, str)):
            odd, value, with_what = (right, b, a) if _is_number(a) or isinstance(left, ast.Constant) else (left, a, b)
            fix = f"; float({ast.unparse(odd)}) reads a number from a text" if isinstance(value, str) else ""
            raise _refusal(odd, value, f"which has no order with {_shown(with_what)}{fix}")
        return bool(compare(a, b))

    return ordered


def _arithmetic(node: ast.expr, operation: Callable[[Any, Any], Any], left: ast.expr, right: ast.expr) -> Evaluate:
    operands = ((left, _compile(left)), (right, _compile(right)))

    def value(row: Mapping[str, Any]) -> Any:
        numbers = [evaluate(row) for _, evaluate in operands]
        if None in numbers:
            return None
        for (part, _), number in zip(operands, numbers, strict=True):
            if not _is_number(number):
                raise _refusal(part, number, f"and {ast.unparse(node)} takes numbers; float() reads one from a text")
        try:
            return operation(*numbers)
        except ArithmeticError:
            raise _refusal(right, numbers[1], f"by which {ast.unparse(node)} has no value; ask for it first") from None

    return value


def _call(name: str, argument: ast.expr) -> Evaluate:
    inner, function = _compile(argument), _FUNCTIONS[name]

    def value(row: Mapping[str, Any]) -> Any:
        given = inner(row)
        if given is None:
            return None
        try:
            return function(given)
        except (TypeError, ValueError):
            raise _refusal(argument, given, f"which {name}() does not take") from None

    return value


def _refusal(node: ast.expr, value: Any, why: str) -> _WrongValueError:
    return _WrongValueError(f"{ast.unparse(node)} is {_shown(value)}, {why}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that are not ours, which stages keep as JSON."""
    text = row.get("extra")
    if not isinstance(text, str):
        return {}
    try:
        held = json.loads(text)
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}
