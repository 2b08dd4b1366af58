"""A question as the duplicates and overlap filters see it: its words, numbers and signs, whatever their dress."""

from __future__ import annotations

import re
import unicodedata

TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[^\w\s]|_")
SKIPPED = frozenset("?!.,;:'\"`‘’“”«»…")


def words_of(text: str) -> list[str]:
    """Lower-case words, whole numbers and mathematical signs; spacing and sentence punctuation do not count."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return [token for token in TOKEN.findall(text.casefold()) if token not in SKIPPED]
