"""Rows as they come from Python: checked, written to a file that a command reads, and the domain that they name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from sq.core.errors import ConfigError
from sq.core.rows_domain import agreed_domain, domains_in

Rows: TypeAlias = "Iterable[Mapping[str, Any]] | str | Path"
"""Rows as dicts (a list, a data set), or where they are: a file, a stage's directory, a dataset of the hub."""


def check(name: str, value: Any, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Refuse what is given in place of an argument, before Hydra or a loop takes it for something else."""
    if not isinstance(value, kinds):
        raise ConfigError(f"{name} is {value!r:.60}; give {wanted}")


@contextmanager
def as_input(rows: Rows | None) -> Iterator[tuple[str | None, set[Any]]]:
    """The name of an input that has these rows, and the domains that they name."""
    if rows is None or isinstance(rows, str | Path):
        yield (None, set()) if rows is None else (str(rows), domains_in(Path(rows)))
        return
    from sq.data.readers import plain

    with tempfile.TemporaryDirectory(prefix="sq-") as scratch:
        path, domains = Path(scratch) / "rows.jsonl", set()
        with path.open("w", encoding="utf-8") as file:
            for row in _checked(rows):
                domains.add(str(row.get("domain")))
                file.write(json.dumps(row, default=plain) + "\n")
        if not domains:
            raise ConfigError("no rows are given")
        yield str(path), domains


def _checked(rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Each row as a dict."""
    check("rows", rows, Iterable, "a list of dicts, a data set, or the name of a file")
    if isinstance(rows, Mapping) and any(hasattr(value, "column_names") for value in rows.values()):
        raise ConfigError(
            f"rows is a data set of several splits ({', '.join(rows)}); give one: rows[{next(iter(rows))!r}]"
        )
    if hasattr(rows, "to_dict") and hasattr(rows, "iloc"):
        raise ConfigError('rows is a pandas DataFrame; give its rows as dicts: rows.to_dict("records")')
    if isinstance(rows, Mapping):
        raise ConfigError("rows is one dict; give a list of rows: [{'question': ...}]")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise ConfigError(f"row {number} is {row!r:.60}; a row is a dict of columns: {{'question': ...}}")
        yield dict(row)


def domain_of(names: set[Any]) -> str:
    """The domain that rows name, where they agree on one of ours; else the command's default."""
    from sq.domains.base import DEFAULT_DOMAIN

    return agreed_domain(names) or DEFAULT_DOMAIN
