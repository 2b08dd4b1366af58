"""HTML and Markdown by templates (`templates/`), and how numbers read: the same there and in a terminal.

HTML escapes every value: no model's text becomes part of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sq.core.count import count_noun
from sq.core.files import digest_of
from sq.core.intervals import Interval
from sq.report.estimates import Change, share
from sq.report.formulas import INVALID, rich

NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page; its template names its title, a summary in a line, and its place in the paper."""

    id: str
    title: str
    summary: str
    paper: str = ""
    body: Markup = Markup()


def section(name: str, /, **values: Any) -> Section:
    """The section that the template NAME.html.j2 makes of these values."""
    module = environment().get_template(f"{name}.html.j2").make_module(values)
    parts = {key: Markup(" ").join(escape(getattr(module, key, "")).split()) for key in ("title", "summary", "paper")}
    return Section(id=name, body=Markup(str(module)), **parts)


def render(template: str, /, **values: Any) -> str:
    """A template filled in; HTML is `Markup`, whose values were escaped unless they were markup themselves."""
    text = environment().get_template(template).render(**values)
    return Markup(text) if ".html" in template else text


@cache
def environment() -> Environment:
    """The templates of this package, with what they can say of numbers."""
    templates = Environment(
        loader=PackageLoader("sq.report"), autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined, finalize=valid, trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.do"],
    )  # fmt: skip
    filters = (percent, number, interval, hours, price, reasons, cut, rich, one_line)
    templates.filters |= {f.__name__: f for f in filters} | {"noun": count_noun}
    templates.globals |= {"share": share, "anchor": anchor}
    return templates


def valid(value: Any) -> Any:
    """A value as HTML may hold it: what it may not is shown as a replacement character."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else INVALID.sub("\ufffd", value)


def anchor(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An id for a table, unique on the page and the same whenever it is made."""
    return f"t-{digest_of(caption, *head, *(str(row[0]) for row in rows))[:10]}"


def one_line(text: Any) -> str:
    """A text as a cell of a Markdown table: nothing in it ends the cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def percent(value: Any, digits: int = 1) -> str:
    """A share."""
    return f"{100 * value:.{digits}f}%" if isinstance(value, int | float) else NONE


def number(value: Any, digits: int = 0) -> str:
    """A count, or a plain number with so many digits after the point."""
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else NONE


def interval(estimate: Interval | None, shares: bool = True, digits: int = 1) -> str:
    """A mean and its 95% interval: of shares in percent, else plain."""
    if estimate is None:
        return NONE
    ends = (estimate.value, estimate.low, estimate.high)
    value, low, high = (percent(end, digits) if shares else number(end, 2) for end in ends)
    return f"{value} ({low} to {high})"


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


def reasons(counts: Mapping[str, int], whole: int = 0) -> str:
    """Reasons of rejects with their counts, the commonest first; of a whole, with their shares."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{n:,} {reason}" + (f" ({percent(n / whole)})" if whole else "") for reason, n in ranked) or NONE


def cut(text: str, most: int) -> str:
    """A text, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters)"
