"""A count and its noun."""

from __future__ import annotations


def count_noun(number: float, word: str) -> str:
    """`1 row`, `1,203 rows`; the plural is made with an s."""
    return f"{number:,.0f} {word}{'' if number == 1 else 's'}"
