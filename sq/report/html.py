"""HTML and Markdown by templates (`templates/`). HTML escapes every value: no model's text becomes part of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sq.core.count import count_noun
from sq.core.files import digest_of
from sq.report import format
from sq.report.formulas import INVALID, rich


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
    title, summary, paper = (
        Markup(" ".join(getattr(module, key, "").split())) for key in ("title", "summary", "paper")
    )
    return Section(id=name, title=title, summary=summary, paper=paper, body=Markup(str(module)))


def render(template: str, /, **values: Any) -> str:
    """A template filled in; HTML is `Markup`, whose values were escaped unless they were markup themselves."""
    text = environment().get_template(template).render(**values)
    return Markup(text) if ".html" in template else text


@cache
def environment() -> Environment:
    """The templates of this package, with what they can say of numbers."""
    made = Environment(
        loader=PackageLoader("sq.report"), autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined, finalize=valid, trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.do"],
    )  # fmt: skip
    filters = ("percent", "number", "interval", "points", "hours", "price", "reasons", "cut")
    made.filters |= {name: getattr(format, name) for name in filters}
    made.filters |= {"noun": count_noun, "rich": rich, "line": one_line}
    made.globals |= {"wilson_interval": format.wilson_interval, "anchor": anchor}
    return made


def valid(value: Any) -> Any:
    """A value as HTML may hold it: what it may not is shown as a replacement character."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else INVALID.sub("\ufffd", value)


def anchor(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An id for a table, unique on the page and the same whenever it is made."""
    return f"t-{digest_of(caption, *head, *(str(row[0]) for row in rows))[:10]}"


def one_line(text: Any) -> str:
    """A text as a cell of a Markdown table: nothing in it ends the cell."""
    return " ".join(str(text).split()).replace("|", "\\|")
