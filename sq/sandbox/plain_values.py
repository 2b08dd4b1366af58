"""Values as plain data: how arguments and results cross between a program and whoever tests it.

Only values of Python's own types are ever built from what a program sent, and a value's own methods are never called on
the reading side, so an `__eq__` that always says yes does not travel. JSON holds None, bools, floats, texts, lists and
small ints; the rest is an object of one tag, as in `_CODECS`, or

    {"i": "0x..."}  a large int                    {"n": "int"}   one of Python's own types or exceptions
    {"h": [number, type]}  an object that stays where it is       {"l": number}   an object of the reader's own
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
_BUILTIN_TYPES = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
_TYPES = frozenset(_BUILTIN_TYPES.values())
Step = Callable[[Any], Any]
"""Encodes or decodes what is within."""
Codec = tuple[type | str, Callable[[Any, Step], Any], Callable[[Any, Step], Any]]


class PlainError(ValueError):
    """A value that cannot cross: nested too deep, or not what the tags promise."""


class Opaque:
    """An object of the program's own, of which only the type's name is known; it equals nothing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def encode(value: Any, export: Step, depth: int = 0) -> Any:
    """A value as JSON can have it; `export` gives what stands for an object that is not plain."""
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        return value if -_EXACT < value < _EXACT else {"i": hex(value)}
    if depth > DEEPEST:
        raise PlainError("nested too deep")

    def step(inner: Any) -> Any:
        return encode(inner, export, depth + 1)

    if kind is list:
        return _items(value, step)
    rule = _ENCODERS.get(kind) or _ENCODERS.get(f"{kind.__module__}.{kind.__name__}")
    if rule is not None:
        return {rule[0]: rule[1](value, step)}
    if kind is type and value in _TYPES:
        return {"n": value.__name__}
    if kind.__module__ == "numpy" and isinstance(getattr(value, "shape", None), tuple) and value.shape == ():
        return step(value.item())
    for base in _BASES:  # an enum of ints is an int, a named tuple a tuple: equal, but for what they print
        if isinstance(value, base):
            return step(_as_base(value, base))
    return export(value)


def decode(data: Any, own: Step) -> Any:
    """The value that JSON stands for, or a PlainError; `own` gives the object that a tag "h" or "l" stands for."""
    if data is None or isinstance(data, bool | int | float | str):
        return data

    def step(inner: Any) -> Any:
        return decode(inner, own)

    if isinstance(data, list):
        return _items(data, step)
    try:
        ((tag, content),) = data.items()
        if tag in ("h", "l"):
            return own(data)
        if tag == "i":
            return int(content, 16)
        return _BUILTIN_TYPES[content] if tag == "n" else _CODECS[tag][2](content, step)
    except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise PlainError(f"not a value: {type(error).__name__}") from error


def decode_plain(data: Any) -> Any:
    """The value that JSON stands for, where objects of the program's own are `Opaque`."""
    return decode(data, lambda d: Opaque(str(d["h"][1]) if "h" in d else "object"))


def value_key(value: Any) -> str | None:
    """A text that is the same for equal values, whatever the order of sets and dicts; None where one is not plain."""
    objects: list[Any] = []  # what has no plain value, and so no key
    data = encode(value, objects.append)
    return None if objects else json.dumps(_sorted(data), sort_keys=True)


def opaque(value: Any) -> Any:
    """What stands for an object that is not to be reached: its type's name."""
    return {"h": [0, type(value).__name__]}


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


def _items(values: Iterable[Any], step: Step) -> list[Any]:
    return [step(item) for item in values]


def _pairs(value: dict[Any, Any], step: Step) -> list[Any]:
    return [[step(k), step(v)] for k, v in value.items()]


def _dict(content: Any, step: Step) -> dict[Any, Any]:
    return {step(k): step(v) for k, v in content}


def _imported(name: str) -> Any:
    """A type by its module and name: not every program need import it."""
    module, _, kind = name.partition(".")
    return vars(importlib.import_module(module))[kind]


def _iso(name: str) -> Codec:
    return name, lambda v, step: v.isoformat(), lambda c, step: _imported(name).fromisoformat(c)


_CODECS: dict[str, Codec] = {
    "t": (tuple, _items, lambda c, step: tuple(_items(c, step))),
    "s": (set, _items, lambda c, step: set(_items(c, step))),
    "z": (frozenset, _items, lambda c, step: frozenset(_items(c, step))),
    "q": (deque, _items, lambda c, step: deque(_items(c, step))),
    "d": (dict, _pairs, _dict),
    "C": (Counter, _pairs, lambda c, step: Counter(_dict(c, step))),
    "O": (OrderedDict, _pairs, lambda c, step: OrderedDict(_dict(c, step))),
    "D": (defaultdict, _pairs, lambda c, step: defaultdict(None, _dict(c, step))),
    "b": (bytes, lambda v, step: v.hex(), lambda c, step: bytes.fromhex(c)),
    "c": (complex, lambda v, step: [v.real, v.imag], lambda c, step: complex(*c)),
    "r": (range, lambda v, step: _items((v.start, v.stop, v.step), step), lambda c, step: range(*_items(c, step))),
    "fraction": (
        "fractions.Fraction",
        lambda v, step: _items((v.numerator, v.denominator), step),
        lambda c, step: _imported("fractions.Fraction")(*_items(c, step)),
    ),
    "decimal": ("decimal.Decimal", lambda v, step: str(v), lambda c, step: _imported("decimal.Decimal")(c)),
    "timedelta": (
        "datetime.timedelta",
        lambda v, step: [v.days, v.seconds, v.microseconds],
        lambda c, step: _imported("datetime.timedelta")(*c),
    ),
    **{name: _iso(f"datetime.{name}") for name in ("datetime", "date", "time")},
}
"""By tag: the type, from a value to its content, and back."""
_ENCODERS = {kind: (tag, to_content) for tag, (kind, to_content, _) in _CODECS.items()}
_ENCODERS[bytearray] = _ENCODERS[bytes]


def _sorted(data: Any) -> Any:
    if isinstance(data, list):
        return [_sorted(item) for item in data]
    if isinstance(data, dict):
        ((tag, content),) = data.items()
        inner = _sorted(content)
        return {tag: sorted(inner, key=json.dumps) if tag in ("s", "z", "d", "C", "D") else inner}
    return float(data) if isinstance(data, int) and not isinstance(data, bool) else data
