"""Written numbers, exactly: decimals, scientific notation, mixed numbers, repeating decimals."""

from __future__ import annotations

import re
from fractions import Fraction

from sq.eval.equal.tree import Num, ParseError

MAX_EXPONENT = 3_000
_FRACTION = re.compile(r"\\frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))|(\d+)/(\d+)", re.ASCII)
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?\s*(\d+)\s*\}?", re.ASCII)
_IN_BRACKETS = re.compile(r"(?<![\w.)])(\d*)\.(\d*)\((\d+)\)(?![\w.(^!])", re.ASCII)
_GOES_ON = re.compile(r"(?<![\w.)])(\d{0,20})\.(\d{0,20}?)(?:(\d)\3\3+|(\d{2,8}?)\4+)(?:\.\.\.+|\s*\\ldots)", re.ASCII)


def number(text: str) -> Num:
    """A number as the lexer found it, with how many digits it shows."""
    mantissa, _, exponent = text.lower().partition("e")
    shift = int(exponent or "0")
    if abs(shift) > MAX_EXPONENT:
        raise ParseError("a number is too large")
    whole, _, part = mantissa.partition(".")
    value = Fraction(int((whole + part) or "0"), 10 ** len(part)) * Fraction(10) ** shift
    if not part and not exponent:
        return Num(value)
    return Num(value, max(1, len((whole + part).lstrip("0"))), len(part) - shift)


def mixed_number(whole: Num, text: str) -> Num | None:
    """A whole number with the proper fraction of digits that `text` starts with, or None."""
    match = _FRACTION.match(text)
    if match is None:
        return None
    top, bottom = (int(g) for g in match.groups() if g is not None)
    if bottom == 0 or top >= bottom:
        return None
    return Num(whole.value + Fraction(top, bottom))


def close_repeating(text: str) -> str:
    r"""Repeating decimals written out as fractions: `0.1\overline{6}`, `0.1(6)` and `0.1666...` are 1/6."""
    if "." not in text:
        return text
    text = _IN_BRACKETS.sub(_fraction, _REPEATING.sub(_fraction, text))
    return _GOES_ON.sub(lambda m: _as_fraction(m, m.group(1), m.group(2), m.group(3) or m.group(4)), text)


def _fraction(match: re.Match[str]) -> str:
    return _as_fraction(match, *match.groups())


def _as_fraction(match: re.Match[str], whole: str, fixed: str, cycle: str) -> str:
    if len(whole) + len(fixed) + len(cycle) > 60:
        return match.group()
    scale = 10 ** len(fixed)
    value = Fraction(int((whole + fixed) or "0"), scale) + Fraction(int(cycle), (10 ** len(cycle) - 1) * scale)
    return rf"(\frac{{{value.numerator}}}{{{value.denominator}}})"
