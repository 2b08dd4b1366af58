r"""Ways of writing that only some writers use, put in the spelling that the reader knows.

`22^\circ 30'`, `5' 6"`, `{3 \over 4}`, `{}_{10}C_3`, `\frac{\text{m}}{\text{s}}`, `all reals except 2`, and answers
whose backslash or last brace was lost on the way. Each is told by its form alone; a text without it stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

MAX_GROUP = 1_000
"""Characters of an answer in which TeX's own `\\over` is looked for."""

_LOST = [("\f", "f", re.compile("\f(?=rac)")), ("\b", "b", re.compile("\b(?=oxed|egin|inom|eta|ar[^a-z])"))]
_SCALE = r"(?i:[bmt]r?illion|thousand)"
_CURRENCY = re.compile(
    r"(?:([€£¥₹])|\\(pounds|euro)(?![A-Za-z]))\s*"
    rf"(-?\d(?:[\d.,]*\d)?(?:\s*(?:{_SCALE}s?\b|\\text\s*\{{\s*{_SCALE}s?\s*\}}))?)"
)
_SIGN_OF = {"pounds": "£", "euro": "€"}

_TEXT = r"\\(?:text|mathrm)\s*\{\s*"
_GROUP = r"((?:[^{}\\]|\\(?!over\b|choose\b)|\{[^{}]*\})*)"
_STACKED = rf"{_GROUP}\\(over|choose)(?![A-Za-z]){_GROUP}"
_IN_GROUP, _WHOLE = re.compile(rf"\{{{_STACKED}\}}"), re.compile(_STACKED)
_STACKED_AS = {"over": "frac", "choose": "binom"}
_PRIME = r"(?:'|\^?\s*\{?\s*\\prime\s*\}?)"
_TWO_PRIMES = rf"(?:\"|{_PRIME}\s*{_PRIME}|\^?\{{(?:\\prime\s*\\prime|'')\s*\}})"
_UNIT = rf"{_TEXT}([A-Za-z ]{{1,20}})\}}((?:\^\{{?\d\}}?)?)"
_SMALLER = r"(?:minutes?|min|seconds?|sec|inch(?:es)?|cents?|cm|grams?|ounces?|oz|days?|weeks?|months?)\b"
_ALL_BUT = re.compile(
    r"(?:(?:the set of )?all )?(?:real numbers?|reals)\s*(?:[a-z]\s*)?,?\s*(?:except|other than|but not)(?: for)?\s+"
    r"(?:[a-z]\s*=\s*)?(.{1,60})",
    re.IGNORECASE,
)
SHARE = re.compile(
    rf"^((?:[-\d.,/\s%{{}}]|\\[dt]?frac|\\%|percent)*\d[\s}}%]*)(?:{_TEXT})?\s*of (?:the|an?|all|his|her|their|its)\b"
    r"[^\d\\{}]{0,40}\}?$"
)
"""A share of something: what it is of is no part of the value."""
_SIGNED = re.compile(
    r"(?:the set of )?(?:all )?((?:non-?)?(?:positive|negative)) (?:real numbers|reals)", re.IGNORECASE
)
_HALVES = {
    "positive": r"(0, \infty)",
    "negative": r"(-\infty, 0)",
    "nonnegative": r"[0, \infty)",
    "nonpositive": r"(-\infty, 0]",
}
_CASES = re.compile(r"\\begin\{[dr]?cases\}.{0,1000}?\\end\{[dr]?cases\}", re.DOTALL)
_CASE_WORDS = re.compile(rf"{_TEXT}(?:if|for|when|where|as|is)\s*\}}|(?<=&)\s*(?:if|for|when|where)\b")
_CASE_START = re.compile(rf"({_TEXT})(?:if|for|when|where|is)\s+(?=[^{{}}]*\}})")
_CASE_ENDS = re.compile(r"[,;.]\s*(&|\\\\|\\end)")
_LARGER = r"(?:hours?|hrs?|h|minutes?|min|feet|foot|ft|dollars?|meters?|m|kg|pounds?|lbs?|years?|weeks?|days?)"
_LESS = rf"\d[\d./]*\s*(?:{_TEXT})?{_SMALLER}"


def with_backslashes(text: str) -> str:
    r"""Commands that a careless reader of JSON took for control characters: a form feed and `rac` are `\frac`."""
    for sign, letter, pattern in _LOST:
        if sign in text:
            text = pattern.sub(rf"\\{letter}", text)
    return text


def money_behind(text: str) -> str:
    """`€100` as `100€`, `€2 million` as `2 million€`: a currency stands where other units do, behind its number."""
    return _CURRENCY.sub(lambda m: m.group(3) + (m.group(1) or _SIGN_OF[m.group(2)]), text)


def usual(text: str) -> str:
    """A tidy answer in the usual notation."""
    if "cases}" in text:
        text = _CASES.sub(_plain_cases, text)
    if len(text) <= MAX_GROUP:
        for sign, pattern, replacement in _RULES:
            if sign in text:
                text = pattern.sub(replacement, text)
        text = _all_but(_unstacked(text))
    return _closed(text)


def _plain_cases(match: re.Match[str]) -> str:
    """Cases without the words and commas that only part a value from its condition."""
    plain = _CASE_WORDS.sub(" ", _CASE_ENDS.sub(r"\1", match.group()))
    return _CASE_START.sub(r"\1", plain)


def _unstacked(text: str) -> str:
    for command in ("over", "choose"):
        for _ in range(4):
            if rf"\{command}" not in text:
                break
            text = _IN_GROUP.sub(_stacked, text)
        whole = _WHOLE.fullmatch(text)
        text = _stacked(whole) if whole else text
    return text


def _stacked(match: re.Match[str]) -> str:
    top, command, bottom = match.groups()
    return rf"\{_STACKED_AS[command]}{{{top.strip()}}}{{{bottom.strip()}}}"


def _closed(text: str) -> str:
    """With the braces closed that were still open at the end."""
    plain = text.replace("\\{", "").replace("\\}", "")
    missing = plain.count("{") - plain.count("}")
    return text + "}" * missing if 0 < missing <= 3 and not text.endswith("{") else text


def _all_but(text: str) -> str:
    """`all real numbers except 2` as a difference of sets, `all positive real numbers` as an interval."""
    if "real" not in text.lower():
        return text
    plain = " ".join(re.sub(rf"{_TEXT}([^{{}}]*)\}}", r"\1", text).split())
    signed = _SIGNED.fullmatch(plain)
    if signed:
        return _HALVES[signed.group(1).lower().replace("-", "")]
    match = _ALL_BUT.fullmatch(plain)
    return rf"\mathbb{{R}} \setminus \{{{match.group(1)}\}}" if match else text


def _degrees(match: re.Match[str]) -> str:
    degrees, minutes, seconds = (Fraction(g or 0) for g in match.groups())
    value = abs(degrees) + minutes / 60 + seconds / 3600
    return rf"{'-' if match.group(1)[0] == '-' else ''}\frac{{{value.numerator}}}{{{value.denominator}}}^\circ"


def _feet(match: re.Match[str]) -> str:
    feet, inches = match.groups()
    return rf"{feet} \text{{feet}}" + (rf" {inches} \text{{inches}}" if inches else "")


def _placed(match: re.Match[str]) -> str:
    above, letter, below = match.groups()
    return rf"\binom{{{above}}}{{{below}}}" if letter == "C" else rf"\frac{{{above}!}}{{({above}-{below})!}}"


_Replacement = str | Callable[[re.Match[str]], str]
_RULES: list[tuple[str, re.Pattern[str], _Replacement]] = [  # a sign without which the pattern cannot match, first
    ("\\not", re.compile(r"\\not\s*="), r"\\ne "),
    ("<", re.compile(r"(?<=[\w)}\s])=\s?<(?=\s*[-\w.\\(])"), r"\\le "),
    (">", re.compile(r"(?<=[\w)}\s])=>(?=\s*[-\w.\\(])"), r"\\ge "),
    ("circ", re.compile(
        rf"(-?\d+)\s*\^\s*\{{?\s*\\circ\s*\}}?\s*(\d+(?:\.\d+)?)\s*{_PRIME}(?!\s*['\"\\^])"
        rf"(?:\s*(\d+(?:\.\d+)?)\s*{_TWO_PRIMES})?"
    ), _degrees),
    ("'", re.compile(r"^(\d+(?:\.\d+)?)\s*'(?:\s*(\d+(?:\.\d+)?)\s*(?:\"|''))?$"), _feet),
    ("\"", re.compile(r"^([^\"']*\d)\s*\"$"), r"\1 \\text{inches}"),
    ("\\frac", re.compile(rf"\\frac\s*\{{\s*{_UNIT}\s*\}}\s*\{{\s*{_UNIT}\s*\}}"), r"\\text{\1\2/\3\4}"),
    (" and", re.compile(rf"(\d\s*{_TEXT}{_LARGER})\s+and\s*\}}\s*(?={_LESS})"), r"\1} "),
    ("and", re.compile(rf"(\d\s*(?:{_TEXT})?{_LARGER}\s*\}}?)\s*(?:{_TEXT})?\band\b\s*\}}?\s*(?={_LESS})"), r"\1 "),
    ("of ", SHARE, r"\1"),
    ("base", re.compile(
        rf"^(\w{{1,40}})\s*(?:{_TEXT})?\(?\s*(?:in )?base[- ]?(\d{{1,2}}|[a-z]{{2,7}})\s*\)?\s*\}}?\s*\)?$", re.ASCII
    ), r"\1_{\2}"),
    ("[", re.compile(r"\[([^\[\]()]{1,60}[,;][^\[\]()]{1,60})\[(?!\s*[\w\\])"), r"[\1)"),
    (".", re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.,])"), lambda m: m.group().replace(".", "")),
    ("noon", re.compile(rf"^(?:12(?::00)?\s*)?(?:{_TEXT})?noon\s*\}}?$"), "12:00 PM"),
    ("midnight", re.compile(rf"^(?:12(?::00)?\s*)?(?:{_TEXT})?midnight\s*\}}?$"), "12:00 AM"),
    ("mod", re.compile(rf"\(\s*(?:\\?mod|{_TEXT}mod\s*\}})\s*(\w{{1,20}})\s*\)"), r"\\pmod{\1}"),
    ("mod ", re.compile(rf"{_TEXT}\(?\s*mod\s+(\w+)\s*\)?\s*\}}"), r"\\pmod{\1}"),
    (" mod ", re.compile(r"(?<=\d)\s+mod\s+(\d{1,20})$"), r"\\pmod{\1}"),
    ("_", re.compile(
        r"(?:\{\s*\}|^|(?<=[=\s]))\s*[_^]\s*\{?\s*(\d{1,4}|[a-z])\s*\}?\s*(?:\\(?:text|mathrm)\s*\{\s*)?([CP])\s*\}?"
        r"\s*_\s*\{?\s*(\d{1,4}|[a-z])\s*\}?", re.ASCII
    ), _placed),
    ("_", re.compile(r"\\(?:text|mathrm)\s*\{\s*(\w{1,40})\s*\}(?=\s*_)", re.ASCII), r"\1"),
    ("", re.compile(r"^(?:USD|Rs\.?|INR|EUR|GBP|US)\s*(?=(?:\\usd\s*)?-?\d)", re.ASCII), ""),
    ("", re.compile(
        r"^(?:the )?(?:vertical |horizontal )?(?:point|line|circle|plane|interval|set)s? (?=[\\(\[{]|\w\s*=)",
        re.IGNORECASE,
    ), ""),
    ("^", re.compile(
        r"\^\s*(?:\\(?:top|intercal)|\{\s*\\(?:top|intercal)\s*\}|\{?\s*\\(?:mathrm|text|mathsf)\s*\{\s*T\s*\}\s*\}?)"
        r"(?![A-Za-z])"
    ), "^T"),
    ("frac", re.compile(r"(?<![A-Za-z\\])[dt]?frac(?=\s*\{)"), r"\\frac"),
]  # fmt: skip
