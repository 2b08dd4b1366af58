"""HTML by small functions that escape whatever is not already markup: text of models never becomes part of the page."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sq.core.files import digest_of

_VOID = frozenset({"br", "hr", "input", "meta", "img", "link"})
INVALID = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class Markup(str):
    """Text that is HTML already, made by the functions here and by nobody else."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page: what it shows, in a line, and the thing itself."""

    id: str
    title: str
    says: str
    body: Markup
    paper: str = ""
    """Which figure or table of the paper it stands beside."""


def escape(text: str) -> Markup:
    """Any text as HTML shows it, quotes included; what no HTML may hold is shown as a replacement character."""
    return Markup(html.escape(INVALID.sub("\ufffd", text), quote=True))


def tag(name: str, /, *children: str, **attributes: str | bool | None) -> Markup:
    """An element. Children that are no `Markup` are escaped; `class_` is class, `data_x` is data-x."""
    said = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Markup:
    """Children one after the other, each escaped unless it is markup."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, words: int = 1, foot: Sequence[str] = ()
) -> Markup:
    """A table with a caption and header cells that screen readers follow; the first `words` columns are text.

    Args:
        head: the columns' names.
        rows: cells; the first of each row is its header.
        caption: what the table holds.
        words: how many columns from the left are text; the others are figures, set to the right.
        foot: a last row, set apart.
    """

    def side(place: int) -> str | None:
        return None if place < words else "n"

    columns = [tag("th", name, scope="col", class_=side(i)) for i, name in enumerate(head)]
    body = [tag("tr", *_cells(row, side)) for row in rows]
    last = [tag("tfoot", tag("tr", *_cells(foot, side)))] if foot else []
    name = f"t-{digest_of(caption, *head, *(row[0] for row in rows))[:10]}"
    made = tag("table", tag("thead", tag("tr", *columns)), tag("tbody", *body), *last, aria_labelledby=name)
    # The caption stands above what scrolls, so that a telephone shows all of it.
    above = tag("p", caption, class_="caption", id=name)
    return join([above, tag("div", made, class_="scroll", tabindex="0", role="region", aria_labelledby=name)])


def note(*children: str) -> Markup:
    """A remark below a figure or table."""
    return tag("p", *children, class_="note")


def listed(items: Iterable[str]) -> Markup:
    """A plain list."""
    return tag("ul", *(tag("li", item) for item in items))


def _cells(row: Sequence[str], side: Callable[[int], str | None]) -> list[Markup]:
    return [
        tag("th", cell, scope="row") if i == 0 else tag("td", _kept(cell) if side(i) else cell, class_=side(i))
        for i, cell in enumerate(row)
    ]


def _kept(cell: str) -> str:
    """An interval in a narrow column stays in one line."""
    return cell if isinstance(cell, Markup) else cell.replace(" to ", "\u00a0to\u00a0")


def _attribute(key: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value)}"'
