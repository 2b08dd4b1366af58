"""Which rows of a source are taken, by an expression over their columns: `fail_rate >= 0.5 and level != 'easy'`.

A small language in Python's own spelling. The text is parsed and each node that is allowed becomes a closure, so
nothing of it is ever run as Python: no calls but those below, no attributes, no indexing, no powers. A column whose
name is no word of Python is `column('my level')`. One without a value is null, as in SQL: what is asked of it is
neither true nor false (nor is `not` of that), but for `== None` and `!= None`. A text and a number are never compared:
numbers of a source may be text here (`level`, CSV).
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
    "it may use columns (column('my level') for a name with spaces), numbers, texts, lists, == != < <= > >= in, "
    "and or not, + - * / %, len() lower() float() str() abs()"
)
COLUMN = "column"
_ORDER = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
_EQUAL = {ast.Eq: True, ast.Is: True, ast.NotEq: False, ast.IsNot: False}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"len": len, "lower": str.lower, "float": float, "abs": abs, "str": str}


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
            self._test = _condition(body)
        except SyntaxError as error:
            raise ValueError(f"where={text!r} is no expression ({error.msg}, at {error.offset}); {LANGUAGE}") from None
        except (RecursionError, MemoryError):
            raise ValueError(f"where={text[:60]!r}... is nested too deeply") from None
        self._columns_checked = False
        called = [node.func for node in ast.walk(body) if isinstance(node, ast.Call)]
        names = {node.id for node in ast.walk(body) if isinstance(node, ast.Name) and node not in called}
        self.columns = sorted(names | {name for node in ast.walk(body) if (name := _quoted_column(node)) is not None})

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


def both(first: str | None, second: str | None) -> str | None:
    """The condition that both of them hold, of which either may be none."""
    if first is None or second is None:
        return first or second
    return " and ".join(f"({one}\n)" if "#" in one else f"({one})" for one in (first, second))


class _WrongValueError(Exception):
    """A value that an operation of the expression cannot take."""


def _compile(node: ast.expr) -> Evaluate:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return lambda row: value
        case ast.Name(id=name):
            return lambda row: value if (value := _value(row, name)) is not None else _value(_extra(row), name)
        case ast.Call() if (quoted := _quoted_column(node)) is not None:
            return _compile(ast.Name(quoted))
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            values = [_compile(element) for element in elements]
            return lambda row: [value(row) for value in values]
        case ast.BoolOp(op=ast.And() | ast.Or() as op, values=operands):
            return _joined([_condition(operand) for operand in operands], decisive=isinstance(op, ast.Or))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _condition(operand)
            return lambda row: None if (truth := inner(row)) is None else not truth
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _arithmetic(node, operator.sub, ast.Constant(0), operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _arithmetic(node, _ARITHMETIC[type(op)], left, right)
        case ast.Compare(left=left, ops=ops, comparators=others):
            pairs = zip([left, *others[:-1]], ops, others, strict=True)
            return _joined([_comparison(one, op, other) for one, op, other in pairs], decisive=False)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            return _call(name, argument)
    raise ValueError(f"where may not hold {ast.unparse(node)!r} ({type(node).__name__}); {LANGUAGE}")


def _condition(node: ast.expr) -> Callable[[Mapping[str, Any]], bool | None]:
    """The truth of an expression for a row; None where a value that is missing decides it."""
    value = _compile(node)

    def truth(row: Mapping[str, Any]) -> bool | None:
        given = value(row)
        if given is not None and not _is_number(given):
            raise _refusal(node, given, f"which is neither true nor false; say {ast.unparse(node)} == {_text(given)}")
        return None if given is None else bool(given)

    return truth


def _joined(tests: list[Callable[[Mapping[str, Any]], bool | None]], decisive: bool) -> Evaluate:
    """`and` (a False decides) or `or` (a True does). One that is not known leaves it unknown, as in SQL."""

    def joined(row: Mapping[str, Any]) -> bool | None:
        unknown = False
        for test in tests:
            truth = test(row)
            if truth is decisive:
                return decisive
            unknown |= truth is None
        return None if unknown else not decisive

    return joined


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr) -> Callable[[Mapping[str, Any]], bool | None]:
    one, other = _compile(left), _compile(right)
    if not any(isinstance(part, ast.Name) for side in (left, right) for part in ast.walk(side)):
        quoted = next((side for side in (left, right) if isinstance(side, ast.Constant) and side.value), left)
        raise ValueError(
            f"where: {ast.unparse(ast.Compare(left, [op], [right]))!r} asks nothing of a row, both sides are values; "
            f"a column stands without quotes, and one whose name has spaces is {COLUMN}({ast.unparse(quoted)})"
        )
    if type(op) in _EQUAL and (_is_null(left) or _is_null(right)):
        return lambda row: ((one(row) is None) == (other(row) is None)) is _EQUAL[type(op)]
    if isinstance(right, ast.List | ast.Tuple) and any(map(_is_null, right.elts)):
        raise ValueError(f"where: nothing is in a list by None; say: ... or {ast.unparse(left)} == None")

    def member(value: Any, container: Any) -> bool | None:
        if isinstance(container, str) and isinstance(value, str):
            return value in container
        if not isinstance(container, list):
            raise _refusal(right, container, f"in which {_text(value)} cannot be; give a list, as ['a', 'b']")
        known = [_equal(left, value, right, element) for element in container if element is not None]
        return True if any(known) else None if len(known) < len(container) else False

    def compared(row: Mapping[str, Any]) -> bool | None:
        a, b = one(row), other(row)
        if a is None or b is None:
            return None
        if type(op) in _EQUAL:
            return _equal(left, a, right, b) is _EQUAL[type(op)]
        if type(op) in _ORDER:
            return _ordered(_ORDER[type(op)], left, a, right, b)
        inside = member(a, b)
        return None if inside is None else inside is isinstance(op, ast.In)

    return compared


def _equal(left: ast.expr, a: Any, right: ast.expr, b: Any) -> bool:
    """Whether two values are equal. A text and a number never are, and the answer would be no answer."""
    if _kind(a) is not _kind(b):
        columns = any(isinstance(part, ast.Name) for part in ast.walk(left))
        odd, value, with_what = (left, a, b) if columns else (right, b, a)
        column, other = ast.unparse(odd), _text(with_what)
        fix = f"compare it with a {'text' if isinstance(value, str) else 'number'}, as {_text(value)}"
        if isinstance(value, list):
            fix = f"ask for {other} in {column}"
        elif isinstance(value, str) and type(with_what) in (int, float):
            fix += f", or float({column}), which reads a number from a text"
        elif isinstance(with_what, str):
            fix += f", or str({column})"
        raise _refusal(odd, value, f"which can never be {other}; {fix}")
    return bool(a == b)


def _ordered(compare: Callable[[Any, Any], Any], left: ast.expr, a: Any, right: ast.expr, b: Any) -> bool:
    if not (_is_number(a) and _is_number(b)) and not (isinstance(a, str) and isinstance(b, str)):
        odd, value, with_what = (right, b, a) if _is_number(a) or isinstance(left, ast.Constant) else (left, a, b)
        fix = f"; float({ast.unparse(odd)}) reads a number from a text" if isinstance(value, str) else ""
        raise _refusal(odd, value, f"which has no order with {_text(with_what)}{fix}")
    return bool(compare(a, b))


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
        except (TypeError, ValueError, OverflowError):
            raise _refusal(argument, given, f"which {name}() does not take") from None

    return value


def _quoted_column(node: ast.AST) -> str | None:
    """The name in `column('my level')`; None of anything else."""
    match node:
        case ast.Call(func=ast.Name(id=called), args=[ast.Constant(value=str() as name)], keywords=[]) if (
            called == COLUMN
        ):
            return name
    return None


def _refusal(node: ast.expr, value: Any, why: str) -> _WrongValueError:
    return _WrongValueError(f"{ast.unparse(node)} is {_text(value)}, {why}")


def _text(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _kind(value: Any) -> type:
    return float if _is_number(value) else type(value)


def _is_null(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _value(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    return None if value != value else value  # NaN, which Parquet files have where there is no number


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that are not ours, or had another type than ours of that name, which stages keep as JSON."""
    text = row.get("extra")
    if not isinstance(text, str):
        return {}
    try:
        held = json.loads(text)
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}
