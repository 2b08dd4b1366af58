"""Values as plain data: how arguments and results cross between a program and whoever judges it.

Only values of Python's own types are ever built from what a program sent, and a value's own methods are never called on
the reading side, so an `__eq__` that always says yes does not travel. JSON holds what it can; the rest has a tag:

    {"t": [...]} tuple  {"s": ...} set    {"z": ...} frozenset  {"d": [[k, v], ...]} dict  {"i": "0x..."} a large int
    {"b": "hex"} bytes  {"c": [re, im]}   {"r": [a, b, step]}   {"q": ...} deque           {"F": [n, d]} Fraction
    {"C": ...} Counter  {"O": ...} OrderedDict  {"D": ...} defaultdict  {"T": [kind, iso]} a date or time
    {"M": "1.5"} Decimal  {"n": "int"} one of Python's own types or exceptions
    {"h": [number, type]} an object that stays where it is   {"l": number} an object of the reader's own
"""

from __future__ import annotations

import builtins
import importlib
import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

DEEPEST = 150
_EXACT = 2**53
_BASES: tuple[type, ...] = (int, float, str, bytes, tuple, list, dict, set, frozenset)


_NAMES = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
_BUILTIN_TYPES = frozenset(_NAMES.values())


class PlainError(ValueError):
    """A value that cannot cross: nested too deep, or not what the tags promise."""


class Opaque:
    """An object of the program's own, of which only the type's name is known; it equals nothing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind} of the program>"

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


Export = Callable[[Any], Any]
"""From an object that is not plain to what stands for it."""


def encode(value: Any, export: Export, depth: int = 0) -> Any:
    """A value as JSON can have it."""
    if value is None or value is True or value is False:
        return value
    if depth > DEEPEST:
        raise PlainError("nested too deep")
    kind = type(value)
    rule = _ENCODERS.get(kind) or _RARE_ENCODERS.get(f"{kind.__module__}.{kind.__name__}")
    if rule is not None:
        return rule(value, lambda v: encode(v, export, depth + 1))
    if kind is type and value in _BUILTIN_TYPES:
        return {"n": value.__name__}
    if kind.__module__ == "numpy" and isinstance(getattr(value, "shape", None), tuple) and value.shape == ():
        return encode(value.item(), export, depth + 1)
    for base in _BASES:  # an enum of ints is an int, a named tuple a tuple: equal, but for what they print
        if isinstance(value, base):
            return encode(_as_base(value, base), export, depth + 1)
    return export(value)


def decode(data: Any, own: Callable[[Any], Any]) -> Any:
    """The value that JSON stands for.

    Args:
        data: what `json.loads` gave.
        own: from what stands for an object (its tag and content) to that object.

    Raises:
        PlainError: where it is no value.
    """
    if data is None or isinstance(data, bool | int | float | str):
        return data
    if isinstance(data, list):
        return [decode(item, own) for item in data]
    try:
        ((tag, content),) = data.items()
        if tag in ("h", "l"):
            return own(data)
        return _DECODERS[tag](content, lambda v: decode(v, own))
    except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise PlainError(f"not a value: {type(error).__name__}") from error


def decode_plain(data: Any) -> Any:
    """The value that JSON stands for, where objects of the program's own are `Opaque`."""
    return decode(data, lambda d: Opaque(str(d["h"][1]) if "h" in d else "object"))


def _as_base(value: Any, base: Any) -> Any:
    """The plain value within one of a derived type; methods that the derived type may have are not asked."""
    if base is dict:
        return dict(dict.items(value))
    if base is float:
        return float.__add__(value, 0.0)
    if base is int:
        return int.__add__(value, 0)
    if base is str:
        return "".join(str.__iter__(value))
    return base(base.__iter__(value))


Step = Callable[[Any], Any]


def _int(value: int, step: Step) -> Any:
    return value if -_EXACT < value < _EXACT else {"i": hex(value)}


def _items(value: Iterable[Any], step: Step) -> list[Any]:
    return [step(item) for item in value]


def _pairs(value: dict[Any, Any], step: Step) -> list[Any]:
    return [[step(k), step(v)] for k, v in value.items()]


_ENCODERS: dict[type, Callable[[Any, Step], Any]] = {
    int: _int,
    float: lambda v, step: v,
    str: lambda v, step: v,
    list: _items,
    tuple: lambda v, step: {"t": _items(v, step)},
    set: lambda v, step: {"s": _items(v, step)},
    frozenset: lambda v, step: {"z": _items(v, step)},
    dict: lambda v, step: {"d": _pairs(v, step)},
    bytes: lambda v, step: {"b": v.hex()},
    bytearray: lambda v, step: {"b": bytes(v).hex()},
    complex: lambda v, step: {"c": [v.real, v.imag]},
    range: lambda v, step: {"r": [step(v.start), step(v.stop), step(v.step)]},
    deque: lambda v, step: {"q": _items(v, step)},
    Counter: lambda v, step: {"C": _pairs(v, step)},
    OrderedDict: lambda v, step: {"O": _pairs(v, step)},
    defaultdict: lambda v, step: {"D": _pairs(v, step)},
}
_RARE_ENCODERS: dict[str, Callable[[Any, Step], Any]] = {  # by name: not every program need import them
    "fractions.Fraction": lambda v, step: {"F": [step(v.numerator), step(v.denominator)]},
    "decimal.Decimal": lambda v, step: {"M": str(v)},
    "datetime.timedelta": lambda v, step: {"T": ["timedelta", [v.days, v.seconds, v.microseconds]]},
    "datetime.datetime": lambda v, step: {"T": ["datetime", v.isoformat()]},
    "datetime.date": lambda v, step: {"T": ["date", v.isoformat()]},
    "datetime.time": lambda v, step: {"T": ["time", v.isoformat()]},
}


def _dict(content: Any, step: Step) -> dict[Any, Any]:
    return {step(k): step(v) for k, v in content}


def _time(content: Any, step: Step) -> Any:
    kind, value = content
    if kind not in ("timedelta", "datetime", "date", "time"):
        raise PlainError("no date or time")
    rare = _rare("datetime", kind)
    return rare(*value) if kind == "timedelta" else rare.fromisoformat(value)


def _rare(module: str, name: str) -> Any:
    return vars(importlib.import_module(module))[name]


_DECODERS: dict[str, Callable[[Any, Step], Any]] = {
    "i": lambda c, step: int(c, 16),
    "t": lambda c, step: tuple(_items(c, step)),
    "s": lambda c, step: set(_items(c, step)),
    "z": lambda c, step: frozenset(_items(c, step)),
    "d": _dict,
    "b": lambda c, step: bytes.fromhex(c),
    "c": lambda c, step: complex(*c),
    "r": lambda c, step: range(*_items(c, step)),
    "q": lambda c, step: deque(_items(c, step)),
    "F": lambda c, step: _rare("fractions", "Fraction")(step(c[0]), step(c[1])),
    "M": lambda c, step: _rare("decimal", "Decimal")(c),
    "C": lambda c, step: Counter(_dict(c, step)),
    "O": lambda c, step: OrderedDict((step(k), step(v)) for k, v in c),
    "D": lambda c, step: defaultdict(None, _dict(c, step)),
    "T": _time,
    "n": lambda c, step: _NAMES[c],
}


def key(value: Any) -> str:
    """A text that is the same for equal plain values, whatever the order of sets and dicts."""
    return json.dumps(_sorted(encode(value, lambda v: {"h": [0, type(v).__name__]})), sort_keys=True)


def _sorted(data: Any) -> Any:
    if isinstance(data, list):
        return [_sorted(item) for item in data]
    if isinstance(data, dict):
        ((tag, content),) = data.items()
        inner = _sorted(content)
        return {tag: sorted(inner, key=json.dumps) if tag in ("s", "z", "d", "C", "D") else inner}
    return float(data) if isinstance(data, int) and not isinstance(data, bool) else data
