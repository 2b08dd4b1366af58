"""The final answer of a solution, and whether two answers are the same number. Exact, strict, capped in size."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from sq.core.files import code_version

_BOXED = "\\boxed{"
_NUMBER = re.compile(r"([+-]?)\$?(\d{1,40}(?:,\d{3}){0,9})(?:\.(\d{1,40})|/(\d{1,40}))?", re.ASCII)
_LATEX = re.compile(r"\\[dt]?frac\{(-?\d{1,40})\}\{(\d{1,40})\}", re.ASCII)


@lru_cache
def extractor_version() -> str:
    """A digest of this code."""
    return code_version([Path(__file__)])


def final_answer(text: str) -> str | None:
    """The content of the last `\\boxed{...}` whose braces balance; None where there is none."""
    end = len(text)
    while (start := text.rfind(_BOXED, 0, end)) >= 0:
        depth, write_start = 1, start + len(_BOXED)
        for i in range(write_start, min(end, write_start + 2000)):
            depth += (text[i] == "{") - (text[i] == "}")
            if depth == 0:
                return text[write_start:i].strip() or None
        end = start
    return None


def number(text: str) -> Fraction | None:
    """A number as a person writes an answer: 12, $12, 1,200, 0.75, 3/4, \\frac{3}{4}. Nothing else."""
    text = text.strip().rstrip(".")
    latex = _LATEX.fullmatch(text)
    if latex:
        return _ratio(latex[1], latex[2])
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, decimals, bottom = match.groups()
    digits = whole.replace(",", "")
    if "," in whole and not re.fullmatch(r"\d{1,3}(,\d{3})+", whole):
        return None
    if bottom is not None:
        return _ratio(sign + digits, bottom)
    return Fraction(sign + digits + ("." + decimals if decimals else ""))


def check(answer: str, reference: str) -> bool:
    """Whether `answer` is exactly the number that `reference` is."""
    left, right = number(answer), number(reference)
    return left is not None and left == right


def _ratio(top: str, bottom: str) -> Fraction | None:
    return Fraction(int(top), int(bottom)) if int(bottom) else None
