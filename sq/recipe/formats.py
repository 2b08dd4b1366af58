"""Numbers and tables as a person reads them, in plans, bills and comparisons."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows as lines: the first `left` columns to the left, numbers to the right, a rule below the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def count(value: float) -> str:
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
