"""What a reader of files yields: a record with its number, or a `BadRow` that says why there is none."""

from __future__ import annotations

import base64
import codecs
import json
import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from sq.core.errors import RowError

log = logging.getLogger(__name__)
MAX_LINE = 16 * 2**20
"""A line or record longer than this is rejected: it is no question, and would have to fit in memory."""
KEPT_TEXT = 20_000
"""Characters of a bad line that are kept."""
BROKEN = (EOFError, OSError, zlib.error)
"""What reading a file raises that breaks off."""
ENCODING_KEYS = "(data.encoding in training, source.encoding in synthesis)"
ENCODING = f"encoding={{}} {ENCODING_KEYS}"
"""How text that is not UTF-8 is asked for."""
OTHER_ENCODING = f"where the whole file is in another encoding, give {ENCODING.format('cp1252')}"
"""cp1252 reads what latin-1 does, and 0x80 to 0x9f as characters of Windows, of which latin-1 makes controls."""
_C1_CONTROL = re.compile("[\x80-\x9f]")
_UNDECODED = re.compile("[\udc80-\udcff]")
Record = tuple[int, dict[str, Any]]
AnyRow = TypeVar("AnyRow")


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A line that gave no row: where it stands, why in one word to count by, why in full, and its text."""

    file: str
    line: int
    reason: str
    detail: str
    text: str = ""
    unit: str = "line"
    data: str = ""
    """The line's own bytes as base64, where they are no UTF-8."""
    id: str = ""
    """The row's id, where it is a good row that was not asked for."""
    earlier: int = 0
    """How many files of that name were read before this one: two directories of a mix may both be called `filter`."""

    @property
    def place(self) -> dict[str, Any]:
        """What tells it from all other lines of one reading."""
        return {"file": self.file, "line": self.line, **({"earlier": self.earlier} if self.earlier else {})}

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.line}: {self.detail}"

    def row(self) -> dict[str, Any]:
        """The bad line as a row for a stage's rejects."""
        more = {name: value for name, value in (("bytes", self.data), ("id", self.id)) if value}
        return {"file": self.file, "line": self.line, "text": self.text, **more}


Lines: TypeAlias = Iterator[tuple[int, str | BadRow]]
"""Numbered lines of a text; a `BadRow` in the place of one that cannot be read."""


def bad_row(file: str, line: int, reason: str, detail: str, text: str = "", unit: str = "line", id: str = "") -> BadRow:
    """A `BadRow` whose text is valid and not too long to keep; bytes that are no UTF-8 are kept beside it."""
    kept = text[:KEPT_TEXT].encode("utf-8", "surrogatepass" if _has_lone_surrogate(text) else "surrogateescape")
    clean = kept.decode("utf-8", "backslashreplace")
    data = base64.b64encode(kept).decode() if clean.encode() != kept else ""
    if len(text) > KEPT_TEXT:
        clean = f"{clean} ... (cut; {len(text):,} characters in all)"
    return BadRow(file=file, line=line, reason=reason, detail=detail, text=clean, unit=unit, data=data, id=id)


def has_undecoded_bytes(text: str) -> bool:
    """Whether bytes that are no UTF-8 stand in it, each as the surrogate that stands for one."""
    return not text.isascii() and _UNDECODED.search(text) is not None


def check_encoding(encoding: str | None) -> None:
    """Raise a `ValueError` for an encoding that Python does not know, or that is none of text read byte by byte."""
    name = encoding or "utf-8"
    try:
        data = "a".encode(name)
        codecs.getincrementaldecoder(name)("surrogateescape").decode(data, final=True)
    except (LookupError, UnicodeError) as error:
        raise ValueError(
            f"encoding={encoding!r} is none that Python knows for text: cp1252, latin-1, utf-16"
        ) from error


def with_encoding_key(message: str, key: str) -> str:
    """A message that names the encoding's key of training and synthesis, with that of another place."""
    return re.sub(rf"encoding=(\S+) {re.escape(ENCODING_KEYS)}", rf"{key}=\1", message)


def of_encoding(bad: BadRow, encoding: str) -> BadRow:
    """A bad row of a file read in an encoding: its bytes as they stand there, and no advice to give an encoding."""
    data = bad.data
    if data:
        with suppress(UnicodeError):  # an escape of JSON may name a character that the encoding lacks
            text = base64.b64decode(data).decode("utf-8", "surrogateescape")
            data = base64.b64encode(text.encode(encoding, "surrogateescape")).decode()
    return replace(bad, data=data, detail=with_given_encoding(bad.detail, encoding))


def with_given_encoding(message: str, encoding: str) -> str:
    """A message on bytes that are no UTF-8, where an encoding was given and they are none of that either."""
    other = f"correct the byte, or give the encoding that the whole file is in, which is not {encoding}"
    return message.replace("is not UTF-8", f"is not {encoding}").replace(OTHER_ENCODING, other)


def with_c1_warning(rows: Iterable[AnyRow], name: str, key: str = "encoding") -> Iterator[AnyRow]:
    """The rows of a file; the first text with a C1 control, as cp1252 read as latin-1 has for `€`, is warned of."""
    rows = iter(rows)
    for row in rows:
        texts = [v for v in row.values() if isinstance(v, str) and not v.isascii()] if isinstance(row, Mapping) else []
        if found := next(filter(None, map(_C1_CONTROL.search, texts)), None):
            around = found.string[max(0, found.start() - 20) : found.end() + 20]
            log.warning(
                "%s holds the control character U+%04X (in %r), as text of Windows does that was read as latin-1; "
                "read the file as Windows wrote it, with %s=cp1252", name, ord(found[0]), around, key
            )  # fmt: skip
            yield row
            break
        yield row
    yield from rows


def _has_lone_surrogate(text: str) -> bool:
    """Whether it holds a surrogate that stands for no byte, as JSON may write one."""
    return any("\ud800" <= c < "\udc80" or "\udcff" < c <= "\udfff" for c in text[:KEPT_TEXT])


def json_record(value: Any, number: int, file: str, unit: str) -> Record | BadRow:
    """A JSON value that stands for a row."""
    if isinstance(value, dict):
        return number, value
    return bad_row(file, number, "not_an_object", no_object(value), json.dumps(value), unit)


def no_object(value: object) -> str:
    """What is wrong with a JSON value that stands where a row should."""
    return f"is a JSON {type(value).__name__}, but one object per row is expected"


def refuse_repeated(names: list[str], what: str) -> None:
    """Raise a `RowError` where a column's name comes twice."""
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise RowError(f"{what} has the column {', '.join(map(repr, twice))} more than once; rename one of them")


def first_line(error: BaseException) -> str:
    """What an error says, short."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
