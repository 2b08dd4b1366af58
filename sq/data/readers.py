"""Files of lines (jsonl, csv, tsv; plain or gzip) as a stream of records, each with its line number.

A line that cannot be read becomes a `BadRow` with its reason and never stops the rest; memory stays bounded whatever
the file holds, a 100-MB line too. What the columns mean is settled later (`columns.py`).
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from sq.core.errors import RowError

MAX_LINE = 16 * 2**20
"""A line or record of more bytes than this is rejected: it is no question, and would have to fit in memory."""
MAX_RECORD_LINES = 2_000
"""Lines a CSV record may span; a quote that is never closed must not swallow the rest of the file."""
KEPT_TEXT = 20_000
"""Characters of a bad line that are kept."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # NaN and Infinity, which JSON lacks, are missing values


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A line that gave no row: where it stands, why in one word to count by, why in full, and its text."""

    file: str
    line: int
    reason: str
    detail: str
    text: str = ""
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.line}: {self.detail}"

    def row(self) -> dict[str, Any]:
        """The bad line as a row for a stage's rejects."""
        return {"file": self.file, "line": self.line, "text": self.text}


Record = tuple[int, dict[str, Any]]


def read_jsonl(path: Path) -> Iterator[Record | BadRow]:
    """One JSON object per line; blank lines are nothing."""
    with open_binary(path) as stream:
        for number, line in _lines(stream, path.name):
            if isinstance(line, BadRow):
                yield line
            elif line.strip():
                yield _json_line(line, number, path.name)


def read_csv(path: Path, delimiter: str = ",", header: bool = True) -> Iterator[Record | BadRow]:
    """Records of comma- or tab-separated text; without a header the columns are called "0", "1", ...

    A field may hold line breaks in quotes. Tab-separated files that do not quote at all are read too.
    """
    csv.field_size_limit(MAX_LINE)
    with open_binary(path) as stream:
        lines = _PushBack(_lines(stream, path.name))
        if delimiter == ",":
            delimiter = _delimiter(lines.peek())
        names: list[str] | None = None
        for number, fields, raw in _csv_records(lines, delimiter, path.name):
            if isinstance(fields, BadRow):
                if names is None and header:
                    raise RowError(f"the header of {path.name} cannot be read: {fields.detail}")
                yield fields
            elif names is None and header:
                names = _header(fields, path)
            elif fields and (any(f.strip() for f in fields) or len(fields) > 1):
                names = names or [str(i) for i in range(len(fields))]
                yield _csv_row(number, names, fields, raw, path.name)


@contextlib.contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unzipped where it is zipped.

    Raises:
        RowError: where it cannot be opened, is empty, or is plainly not what its name says.
    """
    try:
        with open(path, "rb") as raw:
            head = raw.read(64)
            raw.seek(0)
            _check_head(head, path)
            zipped = head[:2] == b"\x1f\x8b"
            with gzip.GzipFile(fileobj=raw) if zipped else contextlib.nullcontext(raw) as stream:
                yield cast(IO[bytes], stream)
    except PermissionError as error:
        raise RowError(f"{path} may not be read by this user; change its permissions") from error
    except FileNotFoundError as error:
        raise RowError(f"{path} has gone since it was found") from error


def _check_head(head: bytes, path: Path) -> None:
    if not head:
        raise RowError(f"{path} is empty (0 bytes)")
    if path.suffix.lower() == ".gz" and head[:2] != b"\x1f\x8b":
        raise RowError(f"{path} is named .gz but is not gzip; rename it, or zip it again")
    if head[:2] in _UTF16:
        raise RowError(f"{path} is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if head[:4] == b"PAR1":
        raise RowError(f"{path} is a parquet file by another name; rename it to .parquet")
    if head.startswith(b"version https://git-lfs"):
        raise RowError(f"{path} is a Git LFS pointer, not the data; run `git lfs pull`")


def _lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, bytes | BadRow]]:
    """Numbered lines; one too long is a `BadRow`, and so is the rest of a file that breaks off."""
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(MAX_LINE + 1)
            if len(line) > MAX_LINE:
                size, head = len(line), line[:KEPT_TEXT]
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_LINE)
                    size += len(line)
                detail = f"is {size:,} bytes long; at most {MAX_LINE:,} are read"
                yield number, bad_row(name, number, "too_long", detail, head.decode("utf-8", "replace"))
                continue
        except (EOFError, OSError, zlib.error) as error:
            yield number, bad_row(name, number, "broken_file", f"nothing more can be read from here on: {error}", "")
            return
        if not line:
            return
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _json_line(line: bytes, number: int, name: str) -> Record | BadRow:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        detail = f"is not UTF-8: byte 0x{line[error.start]:02x} at {error.start}"
        return bad_row(name, number, "invalid_utf8", detail, line.decode("utf-8", "replace"))
    try:
        value = DECODER.decode(text)
    except RecursionError:
        return bad_row(name, number, "broken_json", "is nested too deeply to be read", text)
    except ValueError as error:
        return bad_row(name, number, "broken_json", f"is no JSON: {error}", text)
    if not isinstance(value, dict):
        return bad_row(name, number, "not_an_object", not_an_object(value), text)
    return number, value


class _PushBack:
    """Lines as text, which `csv` takes as many of as a record needs, and which can be given back after an error."""

    def __init__(self, lines: Iterator[tuple[int, bytes | BadRow]]) -> None:
        self._lines = lines
        self._waiting: deque[tuple[int, str | BadRow]] = deque()
        self.taken: list[tuple[int, str]] = []
        self._size = 0

    def __iter__(self) -> _PushBack:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= MAX_RECORD_LINES or self._size > MAX_LINE or isinstance(self.peek(), BadRow | None):
            raise StopIteration
        number, line = self._waiting.popleft()
        assert isinstance(line, str)
        self.taken.append((number, line))
        self._size += len(line)
        return line

    def peek(self) -> str | BadRow | None:
        """The next line, not taken yet; None at the end."""
        if not self._waiting:
            for number, line in self._lines:
                text = line if isinstance(line, BadRow) else line.decode("utf-8", "surrogateescape")
                self._waiting.append((number, text))
                break
        return self._waiting[0][1] if self._waiting else None

    def drop(self) -> None:
        """Pass over the next line, a bad one."""
        self._waiting.popleft()

    def done(self, lines: int) -> tuple[int, str]:
        """Settle the first `lines` lines taken as one record, give the others back; the record's place and text."""
        self._waiting.extendleft(reversed(self.taken[lines:]))
        record, self.taken, self._size = self.taken[:lines], [], 0
        return record[0][0], "".join(text for _, text in record)


def _csv_records(lines: _PushBack, delimiter: str, name: str) -> Iterator[tuple[int, list[str] | BadRow, str]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        bad = lines.peek()
        if bad is None:
            return
        if isinstance(bad, BadRow):
            lines.drop()
            yield bad.line, bad, bad.text
            continue
        try:
            fields = next(reader)
        except csv.Error as error:
            number, raw = lines.done(1)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            if delimiter == "\t":  # quotes that mean nothing: the line as it stands
                yield number, raw.rstrip("\r\n").split("\t"), raw
            else:
                yield number, bad_row(name, number, "broken_csv", f"is no CSV record: {error}", raw), raw
        except StopIteration:
            return
        else:
            number, raw = lines.done(len(lines.taken))
            yield number, fields, raw


def _csv_row(number: int, names: list[str], fields: list[str], raw: str, name: str) -> Record | BadRow:
    if len(fields) != len(names):
        detail = f"has {len(fields)} fields where {len(names)} are expected ({', '.join(names)})"
        return bad_row(name, number, "field_count", detail, raw)
    return number, dict(zip(names, fields, strict=True))


def _delimiter(first: str | BadRow | None) -> str:
    """A comma, unless the first line has none and is plainly split by something else."""
    if not isinstance(first, str) or "," in first:
        return ","
    return next((d for d in (";", "\t") if d in first), ",")


def _header(fields: list[str], path: Path) -> list[str]:
    names = [f.strip() or f"column {i}" for i, f in enumerate(fields)]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise RowError(
            f"the header of {path.name} has {', '.join(map(repr, twice))} more than once; rename one of them"
        )
    return names


def not_an_object(value: object) -> str:
    """The detail of a `BadRow` for JSON that is no object."""
    return f"is a JSON {type(value).__name__}, but one object per row is expected"


def bad_row(file: str, line: int, reason: str, detail: str, text: str, unit: str = "line") -> BadRow:
    """A `BadRow` whose text is valid and not too long to keep."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    if len(clean) > KEPT_TEXT:
        clean = f"{clean[:KEPT_TEXT]} ... (cut; {len(text):,} characters in all)"
    return BadRow(file=file, line=line, reason=reason, detail=detail, text=clean, unit=unit)
