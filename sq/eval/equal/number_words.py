r"""Numbers as they are spoken: `twenty-one`, `two thirds`, `3rd`, `2.5 million`, and the comma of `1000,99`.

Each has its spelling in digits here. Where writers mean two things, both are offered: `5 dozen` is 60, and 5 where
dozens are asked for.
"""

from __future__ import annotations

import re

from sq.eval.equal.units import SCALES
from sq.eval.equal.words import unwrap

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_CARDINALS = {**{w: n for n, w in enumerate(_SMALL)}, **{w: 20 + 10 * n for n, w in enumerate(_TENS)}}
_SCALES = {word: size for word, size in SCALES.items() if word != "dozen"}
_ODD_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12,
}  # fmt: skip
_ORDINALS = {
    **{w + "th": n for w, n in _CARDINALS.items() if n > 3},
    **{w[:-1] + "ieth": n for w, n in _CARDINALS.items() if w.endswith("ty")},
    **_ODD_ORDINALS,
}
_PARTS = {**{w: n for w, n in _ORDINALS.items() if n > 2}, "half": 2, "halve": 2, "quarter": 4, "fourth": 4}
_NUMBER_WORDS = frozenset({*_CARDINALS, *_SCALES, *_ORDINALS, "and", "to", "of", "or", "by", "times", "plus", "minus"})
_MAX_WORDS = 12

_ORDINAL_DIGITS = re.compile(r"(\d{1,6})\s*\^?\s*\{?\s*(?:\\text\s*\{)?\s*(?:st|nd|rd|th)\s*\}?\s*\}?", re.ASCII)
_SCALED = re.compile(
    r"(?P<money>\\usd\s*)?(?P<number>-?(?:\d[\d,]*(?:\.\d+)?|\.\d+))\s*(?P<scale>hundred|thousand|million|billion|trillion|dozen)s?\b"
    r"(?P<rest>.{0,40})",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)
_DECIMAL_COMMA = re.compile(r"([-+]?\s*)(0,\d+|[1-9]\d*,(?:\d{2}|\d{4,}))", re.ASCII)
_SHORT_SCALE = re.compile(r"(?P<money>(?:\\usd\s*)?)(?P<number>-?\d[\d,]*(?:\.\d+)?)(?P<scale>[KkMB])", re.ASCII)
_KELVINS = re.compile(r"^(?!\\usd).*(?:\d\s?(?:\\\w+\s?\{\s?)?K\b|kelvin)", re.ASCII | re.IGNORECASE | re.DOTALL)
_RATIO = re.compile(r"(\d[\d.]*)\s*(?:to|\\text\s*\{\s*to\s*\})\s*(\d[\d.]*)", re.ASCII)


def as_ratio(text: str) -> str:
    """`3 to 4` as `3:4`; other text as it is."""
    ratio = _RATIO.fullmatch(text)
    return f"{ratio.group(1)}:{ratio.group(2)}" if ratio else text


def in_full(text: str, other: str) -> str:
    """`\\usd 5K` as 5000, and `5K` too where the other answer is in no kelvins."""
    short = _SHORT_SCALE.fullmatch(text)
    if short is None or (not short["money"] and (short["scale"] != "K" or _KELVINS.search(other))):
        return text
    size = {"K": "thousand", "M": "million", "B": "billion"}[short["scale"].upper()]
    return f"{short['money']}{short['number']} {size}"


def spellings(text: str) -> list[str]:
    """What a tidy answer may be in digits, most likely first; the text itself where it is no spoken number."""
    plain = " ".join(unwrap(text).split())
    scaled = _SCALED.fullmatch(plain)
    if scaled:
        money, number, scale, rest = (scaled[k] or "" for k in ("money", "number", "scale", "rest"))
        product = rf"{money}{number.replace(',', '')} \cdot {SCALES[scale.lower()]} {rest}".strip()
        return [product, f"{money}{number} {rest}".strip()] if scale.lower() == "dozen" else [product]
    comma = _DECIMAL_COMMA.fullmatch(text)
    if comma:
        return [text, comma.group(1) + comma.group(2).replace(",", ".")]
    ordinal = _ORDINAL_DIGITS.fullmatch(text)
    if ordinal:
        return [ordinal.group(1)]
    return [_worded(plain.lower()) or text]


def _worded(plain: str) -> str | None:
    words = plain.replace("-", " ").strip(" .").split()
    if not words or len(words) > _MAX_WORDS or not words[-1].isalpha():
        return None
    if words[0] in ("negative", "minus"):
        value = _worded(" ".join(words[1:]))
        return None if value is None else f"-{value}"
    whole = _cardinal(words)
    if whole is not None:
        return str(whole)
    if words.count("and") == 1 and not words[-1].startswith("hundred"):  # three and a half
        at = words.index("and")
        units, fraction = _cardinal(words[:at]), _worded(" ".join(words[at + 1 :]))
        if units is not None and fraction and fraction.startswith(r"\frac"):
            return rf"{units}{fraction}"
    part = _PARTS.get(words[-1]) or _PARTS.get(words[-1].removesuffix("s"))
    count = 1 if words[:-1] in ([], ["a"], ["an"]) else _cardinal(words[:-1])
    if part and count is not None and (len(words) > 1 or words == ["half"]) and count < 20:
        return rf"\frac{{{count}}}{{{part}}}"
    last = _ORDINALS.get(words[-1])
    before = _cardinal(words[:-1]) if words[:-1] else 0
    if last is not None and before is not None and before % 10 == 0:
        return str(before + last)
    return _counted(words)


def _counted(words: list[str]) -> str | None:
    """`seven apples`, `two and a half hours`: a number and one or two words of what it counts."""
    for rest in (1, 2):
        unit = words[-rest:]
        if len(words) > rest and words[0] not in ("a", "an") and not _NUMBER_WORDS & set(unit):
            number = _worded(" ".join(words[:-rest]))
            if number is not None:
                return rf"{number} \text{{{' '.join(unit)}}}"
    return None


def _cardinal(words: list[str]) -> int | None:
    """The number that words such as `two hundred and thirty five` say."""
    total, group, started = 0, 0, False
    for word in words:
        if word in _CARDINALS:
            group, started = group + _CARDINALS[word], True
        elif word in ("a", "an") and len(words) > 1:
            group = 1
        elif word == "hundred":
            group, started = max(group, 1) * 100, True
        elif word in _SCALES:
            total, group, started = total + max(group, 1) * _SCALES[word], 0, True
        elif word != "and" or not started:
            return None
    return total + group if started else None
