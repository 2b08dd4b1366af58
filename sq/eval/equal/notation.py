r"""Ways of writing that only some writers use, put in the spelling that the reader knows.

`\frac{\text{m}}{\text{s}}`, `204 base 5`, `all reals except 2`, `of the students` behind a share, and answers whose
backslash or last brace was lost on the way. Each is recognised by its form alone; a text without it stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_GROUP = 1_000
"""Characters of an answer in which TeX's own `\\over` is looked for."""

_LOST = [("\f", "f", re.compile("\f(?=rac)")), ("\b", "b", re.compile("\b(?=oxed|egin|inom|eta|ar[^a-z])"))]
_SCALE = r"(?i:[bmt]r?illion|thousand)"
_CURRENCY = re.compile(
    r"(?:([€£¥₹])|\\(pounds|euro)(?![A-Za-z]))\s*"
    rf"(-?\d(?:[\d.,]*\d)?(?:\s*(?:{_SCALE}s?\b|\\text\s*\{{\s*{_SCALE}s?\s*\}}|\\times\s*10\^(?:\d|\{{\d+\}})))?)"
)
_SIGN_OF = {"pounds": "£", "euro": "€"}
_CODES = {"US": "\\$", "USD": "\\$", "EUR": "€", "GBP": "£", "INR": "₹", "Rs": "₹"}

_TEXT = r"\\(?:text|mathrm)\s*\{\s*"
_CODE = re.compile(rf"(?<![A-Za-z])(?:{_TEXT})?(USD?|EUR|GBP|INR|Rs)\.?\s*\}}?\s*(?:\\?\$\s*)?(?=-?\d)")
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
_LARGER = r"(?:hours?|hrs?|h|minutes?|min|feet|foot|ft|dollars?|meters?|m|kg|pounds?|lbs?|years?|weeks?|days?)"
_LESS = rf"\d[\d./]*\s*(?:{_TEXT})?{_SMALLER}"


def with_backslashes(text: str) -> str:
    r"""Commands that a careless reader of JSON took for control characters: a form feed and `rac` are `\frac`."""
    for sign, letter, pattern in _LOST:
        if sign in text:
            text = pattern.sub(rf"\\{letter}", text)
    return text


def money_behind(text: str) -> str:
    """`€100` and `EUR 100` as `100€`: a currency stands where other units do, behind its number."""
    text = _CODE.sub(lambda m: _CODES[m.group(1)], text)
    return _CURRENCY.sub(lambda m: m.group(3) + (m.group(1) or _SIGN_OF[m.group(2)]), text)


def usual(text: str) -> str:
    """A tidy answer in the usual notation."""
    if len(text) <= MAX_GROUP:
        for sign, pattern, replacement in _RULES:
            if sign in text:
                text = pattern.sub(replacement, text)
        text = _all_but(text)
    return _closed(text)


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


def _chosen(match: re.Match[str]) -> str:
    """`C_{10}^{3}` as a binomial; `C_1^2` may be the square of a constant."""
    n, k = (int(g) for g in match.groups())
    return rf"\binom{{{n}}}{{{k}}}" if n > 2 and n > k else match.group()


_Replacement = str | Callable[[re.Match[str]], str]
_RULES: list[tuple[str, re.Pattern[str], _Replacement]] = [  # a sign without which the pattern cannot match, first
    ("\\not", re.compile(r"\\not\s*="), r"\\ne "),
    ("<", re.compile(r"(?<=[\w)}\s])=\s?<(?=\s*[-\w.\\(])"), r"\\le "),
    (">", re.compile(r"(?<=[\w)}\s])=>(?=\s*[-\w.\\(])"), r"\\ge "),
    ("\"", re.compile(r"^([^\"']*\d)\s*\"$"), r"\1 \\text{inches}"),
    ("\\frac", re.compile(rf"\\frac\s*\{{\s*{_UNIT}\s*\}}\s*\{{\s*{_UNIT}\s*\}}"), r"\\text{\1\2/\3\4}"),
    (" and", re.compile(rf"(\d\s*{_TEXT}{_LARGER})\s+and\s*\}}\s*(?={_LESS})"), r"\1} "),
    ("and", re.compile(rf"(\d\s*(?:{_TEXT})?{_LARGER}\s*\}}?)\s*(?:{_TEXT})?\band\b\s*\}}?\s*(?={_LESS})"), r"\1 "),
    ("\\", re.compile(rf"(?<=[\d)}}%])\s*{_TEXT}([^{{}}\\]*[ (]\d[^{{}}\\]*)\}}"), r" \1"),  # 3 \text{boys and 4 girls}
    ("of ", SHARE, r"\1"),
    ("base", re.compile(
        rf"^(\w{{1,40}})\s*(?:{_TEXT})?\(?\s*(?:in )?base[- ]?(\d{{1,2}}|[a-z]{{2,7}})\s*\)?\s*\}}?\s*\)?$", re.ASCII
    ), r"\1_{\2}"),
    (".", re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.,])"), lambda m: m.group().replace(".", "")),
    ("mod ", re.compile(rf"{_TEXT}\(?\s*mod\s+(\w+)\s*\)?\s*\}}"), r"\\pmod{\1}"),
    ("mod", re.compile(rf"\(\s*(?:\\?mod|{_TEXT}mod\s*\}})\s*(\w{{1,20}})\s*\)"), r"\\pmod{\1}"),
    ("C", re.compile(r"(?<![A-Za-z\\])C\s*_\s*\{?\s*(\d{1,3})\s*\}?\s*\^\s*\{?\s*(\d{1,3})\s*\}?"), _chosen),
    ("U", re.compile(rf"(,[^()\[\],]{{1,60}}[)\]])\s*(?:U|{_TEXT}U\s*\}})\s*(?=[(\[])"), r"\1 \\cup "),
    ("for", re.compile(
        rf",?\s*(?:{_TEXT})?\bfor (?:all |any |every )?(?:integers? )?\}}?\s*"
        r"(?=[kmn]\s*(?:>|\\(?:ge|in)(?![a-z]))[^,]{1,40}$)"
    ), ", "),
    (" mod ", re.compile(r"(?<=\d)\s+mod\s+(\d{1,20})$"), r"\\bmod{\1}"),
    ("_", re.compile(r"\\(?:text|mathrm)\s*\{\s*(\w{1,40})\s*\}(?=\s*_)", re.ASCII), r"\1"),
    ("", re.compile(
        r"^(?:the )?(?:vertical |horizontal )?(?:point|line|circle|plane|interval|set)s? (?=[\\(\[{]|\w\s*=)",
        re.IGNORECASE,
    ), ""),
    ("^", re.compile(
        r"\^\s*(?:\\(?:top|intercal)|\{\s*\\(?:top|intercal)\s*\}|\{?\s*\\(?:mathrm|text|mathsf)\s*\{\s*T\s*\}\s*\}?)"
        r"(?![A-Za-z])"
    ), "^T"),
    ("\\mu", re.compile(
        rf"(?<=\d)\s*\\mu\s*(?:{_TEXT}([A-Za-z]{{1,3}})\s*\}}|([mgsLFCAVWJTH])(?![A-Za-z]))"
    ), r" \\text{mu\1\2}"),
    ("\\Omega", re.compile(rf"(?<=\d)\s*(?:{_TEXT}([kM])\s*\}}|([kM]))\s*\\Omega(?![A-Za-z])"), r" \\text{\1\2ohm}"),
    ("\\Omega", re.compile(rf"({_TEXT}[kMm]?)\s*\\Omega\s*\}}"), r"\1ohm}"),
    ("frac", re.compile(r"(?<![A-Za-z\\])[dt]?frac(?=\s*\{)"), r"\\frac"),
]  # fmt: skip
