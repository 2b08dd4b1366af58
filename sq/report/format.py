"""Numbers as text: the same on the page, on the dataset's card and in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sq.core.intervals import Interval, wilson
from sq.report.changes import Change

NONE = "–"


def percent(value: Any, digits: int = 1) -> str:
    """A share."""
    return f"{100 * value:.{digits}f}%" if isinstance(value, int | float) else NONE


def number(value: Any, digits: int = 0) -> str:
    """A count, or a plain number with so many digits after the point."""
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else NONE


def interval(estimate: Interval | None, shares: bool = True) -> str:
    """A mean and its 95% interval: of shares in percent, else plain."""
    if estimate is None:
        return NONE
    show: Callable[[float], str] = percent if shares else lambda value: f"{value:.2f}"
    return f"{show(estimate.value)} ({show(estimate.low)} to {show(estimate.high)})"


def wilson_interval(part: int, whole: int) -> str:
    """Wilson's interval of a share, without the share."""
    low, high = wilson(part, whole)
    return f"{percent(low)} to {percent(high)}"


def points(change: Change, shares: bool = True) -> str:
    """A change and its interval: of shares in percentage points, else plain."""
    scale, digits = (100, 1) if shares else (1, 2)
    value, low, high = (f"{scale * x:+.{digits}f}".replace("-", "−") for x in (change.value, change.low, change.high))
    return f"{value} ({low} to {high})"


def hours(value: Any) -> str:
    """Device time: in hours where there are some, else in minutes or seconds."""
    if not isinstance(value, int | float):
        return NONE
    if value >= 1:
        return f"{value:,.1f} h"
    return f"{60 * value:.1f} min" if value >= 1 / 60 else f"{3600 * value:.1f} s"


def price(value: Any) -> str:
    """Money, small amounts to two digits that count."""
    if not isinstance(value, int | float):
        return NONE
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.6f}".rstrip("0").rstrip(".") or "0"


def reasons(counts: dict[str, int], whole: int = 0) -> str:
    """Reasons of rejects with their counts, the commonest first; of a whole, with their shares."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{n:,} {reason}" + (f" ({percent(n / whole)})" if whole else "") for reason, n in ranked) or NONE


def cut(text: str, most: int) -> str:
    """A text, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters)"
