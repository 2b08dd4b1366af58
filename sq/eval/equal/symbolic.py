"""The last stage: math-verify, asked only about text that a whitelist has let through, and only inside a worker.

math-verify reads LaTeX with a grammar of its own and compares with SymPy; it knows integrals, limits and derivatives,
which our reader does not. Large exponents, factorials and unknown commands never reach it.
"""

from __future__ import annotations

import logging
import re

MAX_LENGTH = 300
_COMMANDS = frozenset(
    "frac sqrt cdot times pi infty sin cos tan cot sec csc arcsin arccos arctan ln log exp int lim partial left right "
    "alpha beta gamma theta phi le ge ne pm in cup cap to mathbb mathrm text begin end pmatrix sum prod binom".split()
)
_ALLOWED = re.compile(r"[A-Za-z0-9\s+\-*/^_=<>(){}\[\]|,.:\\&]*", re.ASCII)
_POWER = re.compile(r"\^\s*\{?\s*-?\s*(?:\d{4,}|\\?[({]|[^{}]*[\^!])")

_BEYOND_US = re.compile(r"\\(?:int|lim|partial|sum|prod)(?![A-Za-z])|\\frac\s*\{d")


def safe(text: str) -> bool:
    """Whether a text may be given to math-verify: short, of known signs and commands, with no large or nested power."""
    if len(text) > MAX_LENGTH or not _ALLOWED.fullmatch(text):
        return False
    if "__" in text or _POWER.search(text) or re.search(r"\d{16,}|\^[^{]*\^|\}\s*\^\s*\{[^}]*\^", text):
        return False
    return all(name in _COMMANDS for name in re.findall(r"\\([A-Za-z]+)", text)) and not re.search(
        r"[A-Za-z]{12,}", text
    )


def equal(answer: str, reference: str) -> bool:
    """Whether math-verify holds the two for equal; False for text that it may not see."""
    if not (_BEYOND_US.search(answer + reference) and safe(answer) and safe(reference)):
        return False
    from math_verify import LatexExtractionConfig, parse, verify

    config = [LatexExtractionConfig()]
    gold = parse(f"${reference}$", config, parsing_timeout=None, raise_on_error=False)
    given = parse(f"${answer}$", config, parsing_timeout=None, raise_on_error=False)
    return bool(gold and given and verify(gold, given, timeout_seconds=None, raise_on_error=False))


def warm() -> None:
    """Import what this stage needs, so that no pair pays for it."""
    import latex2sympy2_extended  # noqa: F401
    import math_verify  # noqa: F401

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
