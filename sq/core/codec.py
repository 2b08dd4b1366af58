"""Between a stage's rows and what is stored: check each value against the schema, and build the Arrow table.

A row is checked when it is recorded, so that one bad row cannot make the commit of a whole part fail hours later, and
becomes a list of plain JSON values in the schema's order. Those values are what the journal keeps, what the digests are
taken over, and what the table is built from, so a resumed run and an uninterrupted one go the same way.
"""

from __future__ import annotations

import base64
import json
import math
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
        self._columns = [(field.name, _check(field.type, field.name), field.nullable) for field in schema]
        self._revive = {i: _reviver(field.type) for i, field in enumerate(schema) if _has_bytes(field.type)}

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
        arrays = []
        for i, field in enumerate(self.schema):
            revive = self._revive.get(i)
            column = [row[i] if revive is None or row[i] is None else revive(row[i]) for row in rows]
            arrays.append(pa.array(column, type=field.type))
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


def _check(kind: pa.DataType, name: str) -> Check:
    """The function that turns a valid value of type `kind` into a plain one, and refuses any other."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text
    if pa.types.is_integer(kind):
        bits = kind.bit_width
        signed = pa.types.is_signed_integer(kind)
        return _integer(-(1 << (bits - 1)) if signed else 0, (1 << (bits - signed)) - 1, str(kind))
    if pa.types.is_floating(kind):
        floats: dict[int, type[np.floating[Any]]] = {16: np.float16, 32: np.float32, 64: np.float64}
        return _floating(floats[kind.bit_width])
    if pa.types.is_boolean(kind):
        return _boolean
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _bytes
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _sequence(kind.value_field, _check(kind.value_type, name))
    if pa.types.is_struct(kind):
        return _group([(f, _check(f.type, name)) for f in kind])
    raise LedgerError(
        f"column {name!r} has the type {kind}, which a ledger does not keep; it keeps "
        "strings, integers, floats, booleans, binary, and lists and structs of these"
    )


def _refuse(value: Any, wanted: str) -> ValueError:
    return ValueError(f"{reprlib.repr(value)} ({type(value).__name__}) is not {wanted}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse(value, "a string")
    if not value.isascii():
        value.encode()  # raises on a lone surrogate, which UTF-8 cannot hold
    return value if type(value) is str else str.__str__(value)


def _integer(low: int, high: int, kind: str) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int:
            if not isinstance(value, int | np.integer) or isinstance(value, bool):
                raise _refuse(value, "an integer")
            value = int(value)
        if not low <= value <= high:
            raise _refuse(value, f"in the range of {kind}")
        return int(value)

    return check


def _floating(dtype: type[np.floating[Any]]) -> Check:
    def check(value: Any) -> float:
        if not isinstance(value, float | int | np.floating | np.integer) or isinstance(value, bool):
            raise _refuse(value, "a number")
        plain = float(value)
        if dtype is not np.float64:  # keep what the column can hold, so that a digest of what is read back agrees
            with np.errstate(over="ignore"):
                narrow = float(dtype(plain))
            if math.isinf(narrow) and not math.isinf(plain):
                raise _refuse(value, f"in the range of {dtype.__name__}")
            return narrow
        if plain != value and plain == plain:
            raise _refuse(value, "a number that a float holds exactly")
        return plain

    return check


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _refuse(value, "true or false")
    return bool(value)


def _bytes(value: Any) -> str:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _refuse(value, "bytes")
    return base64.b64encode(value).decode()


def _sequence(field: pa.Field, check: Check) -> Check:
    def check_all(values: Any) -> Values:
        if isinstance(values, np.ndarray):
            values = values.tolist()
        if not isinstance(values, list | tuple):
            raise _refuse(values, "a list")
        return [_or_null(value, field, check) for value in values]

    return check_all


def _group(fields: list[tuple[pa.Field, Check]]) -> Check:
    names = {field.name for field, _ in fields}

    def check_all(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _refuse(value, "a group of values")
        if unknown := value.keys() - names:
            raise ValueError(f"it has no {', '.join(map(repr, sorted(unknown)))}; it has {', '.join(sorted(names))}")
        return {field.name: _or_null(value.get(field.name), field, check) for field, check in fields}

    return check_all


def _or_null(value: Any, field: pa.Field, check: Check) -> Any:
    if value is None:
        if not field.nullable:
            raise ValueError(f"{field.name!r} in it is null")
        return None
    return check(value)


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return any(_has_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _reviver(kind: pa.DataType) -> Check:
    """The way back from JSON for a type with bytes somewhere in it."""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return base64.b64decode
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _reviver(kind.value_type)
        return lambda values: [None if v is None else inner(v) for v in values]
    if pa.types.is_struct(kind):
        parts = {field.name: _reviver(field.type) for field in kind}
        return lambda group: {name: None if v is None else parts[name](v) for name, v in group.items()}
    return lambda value: value
