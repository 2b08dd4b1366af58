"""Units as they are written in answers: which words mean one unit, and how units of a kind convert.

A unit matters only when both answers name one: `5 cm` is not `5 m`, but `5` answers `5 cm`. Words that are no unit
here (apples, multiples) say nothing about the number before them, but for those that change it, as in `5 or more`.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

_KINDS: dict[str, dict[str, float]] = {
    "length": {
        "mm millimeter millimetre": 0.001, "cm centimeter centimetre": 0.01, "dm decimeter": 0.1, "m meter metre": 1,
        "km kilometer kilometre": 1000, "in inch inche": 0.0254, "ft foot feet": 0.3048, "yd yard": 0.9144,
        "mi mile": 1609.344,
    },
    "time": {
        "ms millisecond": 0.001, "s sec second": 1, "min minute": 60, "h hr hour": 3600, "day d": 86400, "week": 604800,
        "month": 2629746, "year yr": 31556952,
    },
    "mass": {
        "mg milligram": 1e-6, "g gram": 0.001, "kg kilogram": 1, "lb pound": 0.45359237, "oz ounce": 0.028349523125,
    },
    "volume": {
        "ml milliliter millilitre cc": 1e-6, "cl centiliter": 1e-5, "l liter litre": 0.001,
        "gallon gal": 0.003785411784, "quart": 0.000946352946, "pint": 0.000473176473, "cup": 0.0002365882365,
        "tablespoon tbsp": 1.478676478125e-5, "teaspoon tsp": 4.92892159375e-6,
    },
    "money": {"dollar usd": 1, "cent": 0.01},
    "euro": {"euro eur": 1},
    "sterling": {"gbp": 1},
    "yen": {"yen": 1},
    "rupee": {"rupee inr": 1},
    "yuan": {"yuan": 1},
    "angle": {"degree deg": 1, "radian rad": 180},  # the latter over pi
    "percent": {"percent percentage pct": 1},
    "force": {"n newton": 1, "kn kilonewton": 1000}, "energy": {"j joule": 1, "kj kilojoule": 1000},
    "power": {"w watt": 1, "kw kilowatt": 1000}, "voltage": {"v volt": 1, "kv kilovolt": 1000},
    "current": {"a amp ampere": 1, "ma milliampere": 0.001}, "resistance": {"omega ohm": 1}, "amount": {"mol mole": 1},
    "frequency": {"hz hertz": 1, "khz kilohertz": 1000, "mhz megahertz": 10**6},
    "pressure": {"pa pascal": 1, "kpa kilopascal": 1000, "atm atmosphere": 101325},
    "temperature": {"celsius c": 1}, "fahrenheit": {"fahrenheit f": 1}, "kelvin": {"kelvin k": 1},
}  # fmt: skip
_OVER_PI = ("radian", "rad")
_SPEEDS = {"mph": "mile / hour", "kph": "km / hour", "kmh": "km / hour"}
_TABLE = {
    word: (kind, factor) for kind, names in _KINDS.items() for key, factor in names.items() for word in key.split()
}
UNITS = (
    frozenset(_TABLE)
    | frozenset(_SPEEDS)
    | frozenset(w + "s" for w in _TABLE if len(w) > 2)
    | {"percents", "sq", "cu", "square", "units", "unit"}
)
SINGLE = frozenset("m s g h l L N J W V A K C F d q Omega".split())
"""Letters that may stand for a unit when set upright after a number."""

_PERCENT = frozenset("percent percents percentage pct".split())
_FACTOR = re.compile(r"([a-z]+|[/*])|\^?\{?(-?\d)\}?", re.ASCII)
SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_SCALE = re.compile(rf"({'|'.join(SCALES)})s?\b\s*(?:of\b)?\s*", re.ASCII | re.IGNORECASE)
_CHANGES = re.compile(
    rf"^(?:squared|cubed)$|\b(?:factorial|doubled|tripled|quadrupled|halved|(?:{'|'.join(SCALES)})s?)\b|"
    r"\b(?:or|and) (?:more|less|fewer|up|upwards?|above|below|over|under|greater|higher|lower|larger|smaller)\b|"
    r"\b(?:more|less|fewer)(?: than\b|$)|\bat (?:least|most)\b|\bbelow zero\b|\b(?:plus|minus)$|^(?:plus|minus)\b|"
    r"^(?:halves|thirds|fifths|sixths|sevenths|eighths|ninths|tenths|(?:hundred|thousand)ths)\b|"
    r"[百千](?![克米瓦卡帕伏焦赫分])|[万亿萬億打]",
    re.IGNORECASE,
)
_FILLER = frozenset("the of a an in per total about approximately exactly only us".split())


class Unit(NamedTuple):
    """Kinds with their powers, and what a value is multiplied by for base units: `factor` times a power of pi."""

    kinds: tuple[tuple[str, int], ...]
    factor: float
    pi_power: int


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


def canonical(unit: str) -> Unit | None:
    """What a unit as written comes to; None where a word is not a unit we know."""
    powers: Counter[str] = Counter()
    factor, pi_power, sign, last, scale = 1.0, 0, 1, "", 1
    text = re.sub(r"degrees?\s+(?=celsius|fahrenheit)", "", unit.lower())
    text = text.replace("squared", "^2").replace("cubed", "^3").replace(" per ", " / ").replace("-", " ")
    parts = _FACTOR.findall(re.sub(r"\b(?:mph|kph|kmh)\b", lambda m: _SPEEDS[m.group()], text))
    for word, power in parts:
        times = 0
        if power:
            times = sign * (int(power) - 1)
        elif word == "/":
            sign = -1
        elif word in ("square", "sq", "cubic", "cu"):
            scale = 2 if word.startswith("s") else 3
        elif word == "per":
            sign = -1
        elif word not in ("*", *_FILLER) or (word == "in" and not powers):
            last = word if word in _TABLE else word.removesuffix("s")
            if last not in _TABLE:
                return None
            times, scale = sign * scale, 1
        if times and last:
            kind, size = _TABLE[last]
            kind, power_of = ("length", 3) if kind == "volume" else (kind, 1)  # a litre is a cubic decimetre
            powers[kind] += times * power_of
            factor *= size**times
            pi_power -= times * (last in _OVER_PI)
    kinds = tuple(sorted((k, p) for k, p in powers.items() if p))
    return Unit(kinds, factor, pi_power) if kinds else None
