"""Numbers, durations and tables as a person reads them in a terminal."""

from __future__ import annotations

from collections.abc import Sequence


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


def percent(share: float) -> str:
    """A share."""
    return f"{100 * share:.1f}%"


def columns(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows as lines: the first `left` columns to the left, numbers to the right, a rule below the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def short(value: float) -> str:
    """A number of rows or tokens, short."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "K")):
        if value >= size:
            return f"{value / (1e3 if unit == 'K' else size):.1f}{unit}"
    return f"{value:,.0f}" if value else "-"


def dollars(value: float) -> str:
    """A price; of less than a cent its first digits."""
    if 0 < value < 0.01:
        return f"${value:.3g}"
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"


def printable(text: str) -> str:
    """A model's text without characters that would control the terminal; lines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
