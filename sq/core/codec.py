"""Between a stage's rows and what is stored: check each value against the schema, and build the Arrow table.

A row is checked when it is recorded, so that one bad row cannot make the commit of a whole part fail hours later, and
becomes a list of plain JSON values in the schema's order. Those values are what the journal keeps, what the digests are
taken over, and what the table is built from, so a resumed run and an uninterrupted one go the same way.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from sq.core.errors import LedgerError
from sq.core.files import digest_of

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
Values = list[Any]
Check = Callable[[Any], Any]


class Codec:
    """The values of one schema's rows."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema.remove_metadata()
        self.text = {field.name: f"{field.type}{'' if field.nullable else ' not null'}" for field in schema}
        if len(self.text) < len(schema.names):
            raise LedgerError(f"the schema has two columns of one name: {', '.join(schema.names)}")
        self._columns = [(field.name, checker(field), field.nullable) for field in schema]

    def values(self, row: Mapping[str, Any], key: str) -> Values:
        """The row's values in the schema's order.

        Raises:
            LedgerError: naming the item and the column of a value that is missing, mistyped or not in the schema.
        """
        values = []
        for name, check, nullable in self._columns:
            value = row.get(name)
            if value is None:
                if not nullable:
                    raise LedgerError(f"item {key!r}: column {name!r} is {'null' if name in row else 'missing'}")
            else:
                try:
                    value = check(value)
                except (TypeError, ValueError, OverflowError) as error:
                    raise LedgerError(f"item {key!r}: column {name!r}: {error}") from None
            values.append(value)
        if not row.keys() <= self.text.keys():
            unknown = ", ".join(repr(name) for name in row if name not in self.text)
            raise LedgerError(f"item {key!r}: the schema has no column {unknown}; its columns: {', '.join(self.text)}")
        return values

    def table(self, rows: list[Values]) -> pa.Table:
        """The rows as an Arrow table of this schema."""
        arrays = [pa.array([row[i] for row in rows], type=field.type) for i, field in enumerate(self.schema)]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def rows_of(self, table: pa.Table) -> list[Values]:
        """What `table` was built from."""
        if table.schema.remove_metadata() != self.schema:
            raise LedgerError(f"its columns are {table.schema.names}, not {self.schema.names}")
        return [self.values(row, "") for row in table.to_pylist()]


def digest_rows(rows: Iterable[Values]) -> str:
    """A digest of the content: the same for the same rows in the same order, whatever the file format's version."""
    return digest_of(*(dump(row) for row in rows))


def dump(value: Any) -> bytes:
    """`value` as one line of JSON."""
    return _compact.encode(value).encode()


def dump_loose(value: Any) -> str:
    """Any row as a JSON text, for people: what JSON has no form for is written out, lone surrogates are escaped."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=_plain)
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, default=_plain)
    return text


def escape(text: str) -> str:
    """`text` such that it can be stored as UTF-8."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)


def checker(field: pa.Field) -> Check:
    """The function that turns a valid value of a column into a plain one, and refuses any other."""
    if pa.types.is_list(field.type):
        return _sequence(checker(field.type.value_field), field.type.value_field.nullable)
    checks = {pa.string(): _text, pa.int64(): _integer, pa.float64(): _float, pa.bool_(): _boolean}
    if field.type not in checks:
        raise LedgerError(
            f"column {field.name!r} has the type {field.type}, which a ledger does not keep; it keeps "
            f"{', '.join(map(str, checks))}, and lists of these"
        )
    return checks[field.type]


def _refuse(value: Any, wanted: str) -> ValueError:
    return ValueError(f"{reprlib.repr(value)} ({type(value).__name__}) is not {wanted}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse(value, "a string")
    if not value.isascii():
        value.encode()  # raises on a lone surrogate, which UTF-8 cannot hold
    return value if type(value) is str else str.__str__(value)


def _integer(value: Any) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise _refuse(value, "an integer")
    if not -(2**63) <= value < 2**63:
        raise _refuse(value, "in the range of int64")
    return int(value)


def _float(value: Any) -> float:
    if not isinstance(value, float | int | np.floating | np.integer) or isinstance(value, bool):
        raise _refuse(value, "a number")
    plain = float(value)
    if plain != value and plain == plain:
        raise _refuse(value, "a number that a float holds exactly")
    return plain


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _refuse(value, "true or false")
    return bool(value)


def _sequence(check: Check, nullable: bool) -> Check:
    def check_all(values: Any) -> Values:
        if isinstance(values, np.ndarray):
            values = values.tolist()
        if not isinstance(values, list | tuple):
            raise _refuse(values, "a list")
        if not nullable and None in values:
            raise ValueError("an item in it is null")
        return [None if value is None else check(value) for value in values]

    return check_all
