"""Units as they are written in answers: which words mean one unit, and how units of a kind convert.

A unit matters only when both answers name one: `5 cm` is not `5 m`, but `5` answers `5 cm`. Words that are no unit
here (apples, multiples) say nothing about the number before them, but for those that change it, as in `5 or more`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

_DEFINITIONS = (
    ("m", "meter metre", "n mu u m c d k", "length"),
    ("g", "gram gramme", "n mu u m k", "mass"),
    ("s", "second sec", "p n mu u m", "time"),
    ("A", "ampere amp", "n mu u m k", "current"),
    ("K", "kelvin", "mu u m", "temperature"),
    ("mol", "mole", "n mu u m k", "amount"),
    ("", "degree deg", "", "angle"),
    ("rad", "radian", "m", "180 degree"),  # over pi
    ("", "percent percentage pct", "", "percent"),
    ("", "celsius", "", "celsius"), ("", "fahrenheit", "", "fahrenheit"),
    ("", "dollar usd", "", "money"), ("", "cent", "", "0.01 dollar"), ("", "euro eur", "", "euro"),
    ("", "gbp", "", "gbp"), ("", "yen", "", "yen"), ("", "rupee inr", "", "rupee"), ("", "yuan", "", "yuan"),
    ("", "inch inche in", "", "0.0254 m"), ("", "foot feet ft", "", "12 inch"), ("", "yard yd", "", "3 foot"),
    ("", "mile mi", "", "5280 foot"), ("", "acre", "", "43560 foot^2"), ("", "hectare", "", "10000 m^2"),
    ("min", "minute", "", "60 s"), ("h", "hour hr", "", "3600 s"), ("d", "day", "", "24 h"), ("", "week", "", "7 day"),
    ("", "month", "", "2629746 s"), ("", "year yr", "", "12 month"),
    ("", "pound lb", "", "0.45359237 kg"), ("", "ounce oz", "", "1/16 pound"), ("", "tonne", "", "1000 kg"),
    ("l", "", "m c d", "0.001 m^3"), ("L", "liter litre", "mu u m c d", "0.001 m^3"), ("cc", "", "", "1 cm^3"),
    ("", "gallon gal", "", "231 inch^3"), ("", "quart", "", "1/4 gallon"), ("", "pint", "", "1/8 gallon"),
    ("", "cup", "", "1/16 gallon"), ("", "tablespoon tbsp", "", "1/256 gallon"),
    ("", "teaspoon tsp", "", "1/768 gallon"),
    ("N", "newton", "mu u m k M", "1 kg m / s^2"), ("J", "joule", "mu u m k M G", "1 N m"),
    ("W", "watt", "mu u m k M G", "1 J / s"), ("Wh", "", "k M G", "3600 J"), ("cal", "calorie", "k", "4.184 J"),
    ("eV", "electronvolt", "m k M G T", "1.602176634e-19 J"),
    ("C", "coulomb", "p n mu u m", "1 A s"), ("V", "volt", "mu u m k M", "1 W / A"),
    ("ohm", "ohm", "k M m", "1 V / A"), ("F", "farad", "p n mu u m", "1 C / V"),
    ("Wb", "weber", "m", "1 V s"), ("T", "tesla", "mu u m", "1 Wb / m^2"), ("H", "henry", "mu u m", "1 Wb / A"),
    ("Hz", "hertz", "k M G T", "1 / s"), ("rpm", "", "", "6 degree / s"), ("Pa", "pascal", "h k M G", "1 N / m^2"),
    ("atm", "atmosphere", "", "101325 Pa"), ("bar", "", "m", "100000 Pa"), ("", "mmHg", "", "133.322387415 Pa"),
)  # fmt: skip
"""Letters, which keep their case; words, in any case; prefixes; and a kind of its own, or a number of units above."""
_PREFIXES = {
    "p": ("pico", -12), "n": ("nano", -9), "mu": ("micro", -6), "u": ("micro", -6), "m": ("milli", -3),
    "c": ("centi", -2), "d": ("deci", -1), "h": ("hecto", 2), "k": ("kilo", 3), "M": ("mega", 6), "G": ("giga", 9),
    "T": ("tera", 12),
}  # fmt: skip
MAX_POWER = 12
"""Power of a unit up to which it is one."""
_OVER_PI = ("radian", "rad")
_SPEEDS = {"mph": "mile / hour", "kph": "km / hour", "kmh": "km / hour"}
_SHORT = frozenset(
    "mm cm dm km in ft yd mi ms sec min hr yr mg kg lb oz ml cc cl gal tbsp tsp kn kj kw kv ma hz khz mhz pa kpa "
    "atm mol usd eur gbp inr deg rad pct mmhg kcal kwh lbs kgs hrs yrs".split()
)
"""Abbreviations read in any case, and right behind their number: `5KG`."""
SINGLE = frozenset("m s g h l L N J W V A K C F d q Omega".split())
"""Letters that may stand for a unit after a number."""
UPRIGHT = SINGLE | {"T", "H"}
"""The same when they are set upright."""

_PERCENT = frozenset("percent percents percentage pct".split())
_FACTOR = re.compile(r"([A-Za-z]+|[/*])|\^?\s?\{?(-?\d{1,9})\}?", re.ASCII)
_SIGNS = re.compile(r"\\(?:cdot|times)\b|(?<=[A-Za-z])-(?=[A-Za-z])|~")
_DEGREES = re.compile(r"(?:degrees?\s+|\^\s?\{?\\circ\s?\}?\s?)(?:(c)(?:elsius)?|f(?:ahrenheit)?)\b", re.IGNORECASE)
SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_SCALE = re.compile(rf"({'|'.join(SCALES)})s?\b\s*(?:of\b)?\s*", re.ASCII | re.IGNORECASE)
_CHANGES = re.compile(
    rf"^(?:squared|cubed)$|\b(?:factorial|doubled|tripled|quadrupled|halved|(?:{'|'.join(SCALES)})s?)\b|"
    r"\b(?:or|and) (?:more|less|fewer|up|upwards?|above|below|over|under|greater|higher|lower|larger|smaller)\b|"
    r"\b(?:more|less|fewer) than\b|\b(?:less|fewer)$|\bat (?:least|most)\b|\bbelow zero\b|"
    r"\b(?:plus|minus)$|^(?:plus|minus)\b|"
    r"^(?:halves|thirds|fifths|sixths|sevenths|eighths|ninths|tenths|(?:hundred|thousand)ths)\b|"
    r"^(?:mil|mill[ei]|mila|milliers?|millones|millionen|millions|milioni|tausend|hundert|dutzend|docenas?|douzaines?|"
    r"lakhs?|crores?|bn|grand$|fourths|drittel|viertel|tercios?)\b|"
    r"\b(?:oder (?:mehr|weniger)|ou (?:plus|moins)|o (?:mas|menos)|und ein halb|y medi[oa]|et demie?)\b|"
    r"[百千](?![克米瓦卡帕伏焦赫分])|[万亿萬億打]",
    re.IGNORECASE,
)
_FILLER = frozenset("the of a an in per total about approximately exactly only us".split())


class Unit(NamedTuple):
    """Kinds with their powers, and what a value is multiplied by for base units: `factor` times a power of pi."""

    kinds: tuple[tuple[str, int], ...]
    factor: Fraction
    pi_power: int = 0


def is_percent(unit: str) -> bool:
    """Whether a unit as written says percent, alone or among other words."""
    return not _PERCENT.isdisjoint(unit.lower().split())


def scaled(unit: str) -> tuple[int, str]:
    """What words behind a number multiply it by, and the unit that is left: `million dollars` is 10**6 and dollars."""
    factor = 1
    while match := _SCALE.match(unit):
        factor, unit = factor * SCALES[match.group(1).lower()], unit[match.end() :]
    return factor, unit


def change(unit: str) -> str:
    """The words that make the number before them another one, or a range: they are no unit."""
    match = _CHANGES.search(unit)
    return match.group().strip() if match else ""


def is_symbol(run: str, *, spaced: bool) -> bool:
    """Whether letters behind a number are a unit: `5 nm`, but not `5nm`, which may be a product."""
    lower = run.lower()
    return lower in UNITS or (run in _LETTERS and (spaced or not run.islower()))


def canonical(unit: str) -> Unit | None:
    """What a unit as written comes to; None where a word is not a unit we know."""
    powers: Counter[str] = Counter()
    sign, last, scale, in_unit = 1, "", 1, True  # whether "in" would be inches
    text = _SIGNS.sub(" ", _DEGREES.sub(lambda m: "celsius" if m[1] else "fahrenheit", unit.replace("\\mu ", "mu")))
    text = re.sub(r"\b(?:mph|kph|kmh)\b", lambda m: _SPEEDS[m.group().lower()], text, flags=re.IGNORECASE)
    for word, power in _FACTOR.findall(text):
        lower = word.lower()
        if power and last:
            powers[last] += sign * (int(power) - 1)
        elif lower in ("squared", "cubed") and last:
            powers[last] += sign * (1 if lower == "squared" else 2)
        elif word == "/" or lower == "per":
            sign = -1
        elif lower in ("square", "sq", "squared", "cubic", "cu", "cubed"):
            scale = 2 if lower.startswith("s") else 3
        elif word not in ("", "*") and (word in _LETTERS or lower not in _FILLER or (lower == "in" and in_unit)):
            last = _name(word)
            if not last:
                return None
            powers[last] += sign * scale
            scale = 1
        in_unit = word == "/" or lower == "per" or scale > 1
    return _product(powers)


def _name(word: str) -> str:
    """The name in the table of a unit as written: letters by their case, words in any."""
    if word in _LETTERS:
        return word
    lower = word.lower()
    return _FOLDED.get(lower) or _FOLDED.get(lower.removesuffix("s"), "")


def _product(powers: Mapping[str, int]) -> Unit | None:
    """Units of the table with their powers as one."""
    if any(abs(power) > MAX_POWER for power in powers.values()):
        return None
    kinds: Counter[str] = Counter()
    factor = Fraction(1)
    for name, power in powers.items():
        one = _TABLE[name]
        factor *= one.factor**power
        for kind, times in one.kinds:
            kinds[kind] += times * power
    pi_power = -sum(powers.get(name, 0) for name in _OVER_PI)
    left = tuple(sorted((kind, power) for kind, power in kinds.items() if power))
    return Unit(left, factor, pi_power) if left else None


def _fill_tables() -> None:
    """Read the definitions, each of which uses the ones before it."""
    for letters, words, prefixes, definition in _DEFINITIONS:
        number, _, of = definition.partition(" ")
        unit = canonical(of) if of else Unit(((definition, 1),), Fraction(1))
        assert unit, definition
        sizes = {"": Fraction(number) if of else Fraction(1)}
        for prefix in prefixes.split():
            sizes[prefix] = sizes[""] * Fraction(10) ** _PREFIXES[prefix][1]
        for prefix, size in sizes.items():
            one = unit._replace(factor=unit.factor * size)
            if letters and prefix + letters != "us":  # 5 us dollars
                _TABLE[prefix + letters] = one
                _LETTERS.add(prefix + letters)
            for word in words.split():
                name = (_PREFIXES[prefix][0] if prefix else "") + word.lower()
                _TABLE[name], _FOLDED[name] = one, name
    for name in sorted(_LETTERS, key=str.islower):  # in another case, where that can be one unit alone
        folded = name.lower()
        alike = [other for other in _LETTERS if other.lower() == folded and _TABLE[other] != _TABLE[name]]
        if len(name) > 1 and folded not in _FOLDED and not alike:
            _FOLDED[folded] = name


_TABLE: dict[str, Unit] = {}
_LETTERS: set[str] = set()
_FOLDED: dict[str, str] = {}
_fill_tables()
_WORDS = frozenset(name for name in _FOLDED if _FOLDED[name] == name and len(name) > 3) | _SHORT
UNITS = (
    _WORDS
    | frozenset(word + "s" for word in _WORDS if len(word) > 2)
    | frozenset(_SPEEDS)
    | {"day", "days", "cup", "cups", "sq", "cu", "square", "units", "unit"}
)
"""What is read as a unit in any case."""
