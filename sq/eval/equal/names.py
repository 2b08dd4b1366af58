"""What counts as the name of a quantity on one side of an equation: `x`, `f(x)`, `|AB|`, `(p, q)`, `P(X = 2)`.

`x = 5` answers "what is x" as well as `5` does; `11a + c = 7` does not answer with `7`.
"""

from __future__ import annotations

import re

BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12,
    "sixteen": 16, "hex": 16,
}  # fmt: skip

_MARK = r"(?:'|\\prime|\^\{?(?:\\prime|\*|'|-1|\+|-)\}?)*"
_SUB = r"(?:_(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\w|\\[A-Za-z]+))?"
_NO_LETTER = r"(?:frac|sqrt|pi|infty|sin|cos|tan|log|ln|times|cdot|pm)\b"
_LETTER = rf"(?:[A-Za-z]|\\(?!{_NO_LETTER})[A-Za-z]+(?:\s*\{{\s*\\?[A-Za-z]{{1,4}}\s*\}})?)"
_PLAIN = rf"(?:\\(?:Delta|angle|triangle|overline)\s*)?{_LETTER}\s*{_MARK}\s*{_SUB}\s*{_MARK}"
_CALL = rf"{_PLAIN}\s*\(\s*(?P<args>[^()=]{{1,60}}(?:=[^()]{{1,20}})?)\s*\)"
_NAME = re.compile(
    rf"\s*(?:{_PLAIN}|{_CALL}|[A-Z]{{1,6}}{_SUB}|\|\s*(?:[A-Z]{{2}}|[zwuv]|\\(?:vec|mathbf|overrightarrow)\s*\{{\s*\w{{1,2}}\s*\}})\s*\||"
    rf"\\det\s*\(?\s*[A-Z]\s*\)?|m?\s*\\angle\s*[A-Z]{{1,3}}|[A-Z]{{1,4}}\s*[A-Z])\s*",
    re.ASCII,
)
_TUPLE = re.compile(rf"\s*[(\[]\s*{_PLAIN}(?:\s*,\s*{_PLAIN})+\s*[)\]]\s*", re.ASCII)
_DERIVATIVE = re.compile(
    r"\s*\\frac\s*\{\s*d\s*\^?\{?\d?\}?\s*[a-z]?\s*\}\s*\{\s*d\s*[a-z]\s*\^?\{?\d?\}?\s*\}\s*[a-z]?\s*|d[a-z]\s*/\s*d[a-z]"
)
_FUNCTION = re.compile(
    r"\s*\\(?:sin|cos|tan|cot|sec|csc|log|ln)\s*(?:\(?\s*(?:[A-Za-z]|\\[a-z]+|\\angle\s*[A-Z]{1,3})\s*\)?)\s*"
)
_FIGURE = (
    r"(?:\\overline\s*\{\s*[A-Z]{2}\s*\}|\|\s*[A-Z]{2}\s*\||\\(?:angle|triangle)\s*[A-Z]{1,3}|\[\s*[A-Z]{3,6}\s*\]|"
    r"[A-Z]\s?[A-Z]{1,3})(?:\s*\^\s*\{?\s*\d\s*\}?)?"
)
_FIGURES = rf"{_FIGURE}(?:\s*(?:[-+*]|\\cdot|\\times)?\s*{_FIGURE})*"
_MEASURED = re.compile(
    rf"\s*(?:{_FIGURES}|\\frac\s*\{{{_FIGURES}\}}\s*\{{{_FIGURES}\}}|{_FIGURES}\s*/\s*{_FIGURE})\s*", re.ASCII
)
"""What is made of segments, angles and areas alone: no equation of unknowns, but one quantity."""
_RATIO = re.compile(
    rf"\s*(?:\\frac\s*\{{\s*{_PLAIN}\s*\}}\s*\{{\s*{_PLAIN}\s*\}}|{_PLAIN}\s*/\s*{_PLAIN})\s*", re.ASCII
)
_CONSTANT = frozenset({"e", "i", r"\pi", r"\infty", r"\emptyset"})


def label(text: str) -> str:
    """The name without spaces where `text` is one, else nothing."""
    if len(text) > 120:
        return ""
    plain = text.strip()
    if plain in _CONSTANT:
        return ""
    for pattern in (_NAME, _TUPLE, _DERIVATIVE, _FUNCTION, _MEASURED, _RATIO):
        if pattern.fullmatch(plain):
            return re.sub(r"\s+|(?<=_)\{(?=\w\})|(?<=_\{\w)\}", "", plain).replace("_{", "_").rstrip("}")
    return ""


def head(name: str) -> str:
    """The part of a name before its arguments: `f` of `f(x)`."""
    return name.partition("(")[0]


def arguments(name: str) -> list[str]:
    """The arguments in a name: `x` and `y` of `f(x,y)`."""
    inside = name.partition("(")[2].rstrip(")")
    return [a for a in inside.split(",") if a] if name[:1] not in "([" else []
