"""HTML by templates (`templates/*.html.j2`) that escape every value: text of models never becomes part of the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sq.core.files import digest_of

INVALID = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that no HTML may hold."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page: what it shows, in a line, and the thing itself."""

    id: str
    title: str
    says: str
    body: Markup
    paper: str = ""
    """Which figure or table of the paper it stands beside."""


def render(template: str, /, **values: Any) -> Markup:
    """A template filled in; values that are no `Markup` are escaped."""
    return Markup(environment().get_template(template).render(**values))


@cache
def environment() -> Environment:
    """The templates of this package."""
    return Environment(
        loader=PackageLoader("sq.report"), autoescape=True, undefined=StrictUndefined, finalize=valid,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False,
    )  # fmt: skip


def valid(value: Any) -> Any:
    """A value as HTML may hold it: what it may not is shown as a replacement character."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else INVALID.sub("\ufffd", value)


def join(parts: Iterable[str]) -> Markup:
    """Parts one after the other, each escaped unless it is markup."""
    return Markup("").join(map(valid, parts))


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, words: int = 1, foot: Sequence[str] = ()
) -> Markup:
    """A table with a caption and header cells that screen readers follow; the first `words` columns are text.

    Args:
        head: the columns' names.
        rows: cells; the first of each row is its header.
        caption: what the table holds.
        words: how many columns from the left are text; the others are numbers, set to the right.
        foot: a last row, set apart.
    """
    name = f"t-{digest_of(caption, *head, *(row[0] for row in rows))[:10]}"
    return render("table.html.j2", id=name, head=head, rows=rows, caption=caption, words=words, foot=foot)


def note(text: str) -> Markup:
    """A remark below a figure or table."""
    return render("note.html.j2", text=text)


def details(summary: str, *parts: str) -> Markup:
    """What is shown when the reader asks for it."""
    return render("details.html.j2", summary=summary, body=join(parts))


def heading(text: str) -> Markup:
    """Of a part of a section."""
    return render("heading.html.j2", text=text)
