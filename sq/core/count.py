"""Counts and durations in words."""

from __future__ import annotations


def count_noun(number: float, word: str) -> str:
    """`1 row`, `1,203 rows`; the plural is made with an s."""
    return f"{number:,.0f} {word}{'' if number == 1 else 's'}"


def clock(seconds: float) -> str:
    """A duration: 8 s, 3 min 05 s, 2 h 10 min, 4.2 days."""
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 6000 else f"{minutes / 1440:.1f} days"


def printable(text: str) -> str:
    """A model's text without characters that would control the terminal; lines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
