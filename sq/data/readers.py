"""Files of rows (jsonl, json, csv, tsv, parquet; text also gzipped) as one stream of records with their row numbers.

What cannot be read becomes a `BadRow` with its place and its reason and never stops the rest; memory stays bounded
whatever the file holds. Parquet is pyarrow's. Text goes through Python's own `csv` and `json`: the readers of pyarrow
and `datasets` give no line numbers, stop at the first broken line of JSON, and take what follows a stray quote, up to
the end of the file, for one field.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import datetime
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from sq.core.errors import RowError
from sq.data.csv_records import csv_records, read_csv, with_delimiter
from sq.data.json_documents import DECODER, is_lines, read_json
from sq.data.locate import format_of
from sq.data.records import (
    BROKEN,
    ENCODING,
    KEPT_TEXT,
    MAX_LINE,
    OTHER_ENCODING,
    BadRow,
    Lines,
    Record,
    bad_row,
    first_line,
    json_record,
    refuse_repeated,
)

__all__ = ["BadRow", "Record", "arrow_records", "first_line_of_record", "plain", "read_file"]

BATCH = 1000
_CHUNK = 2**16
_HEADS = {
    b"\xff\xfe": f"is UTF-16; give {ENCODING.format('utf-16')}",
    b"\xfe\xff": f"is UTF-16; give {ENCODING.format('utf-16')}",
    b"PAR1": "is a parquet file by another name; rename it to .parquet",
    b"version https://git-lfs": "is a Git LFS pointer, not the data; run `git lfs pull`",
}


def read_file(
    path: Path, *, header: bool = True, split: str | None = None, encoding: str | None = None
) -> Iterator[Record | BadRow]:
    """The records of a file in the format that its name tells, each with its number.

    Args:
        path: the file.
        header: csv, tsv: the first line has the names; without it they are "0", "1", ...
        split: json: which list, where the document holds several, as in {"train": [...], "test": [...]}.
        encoding: of text that is not UTF-8.

    Raises:
        RowError: for a file that cannot be read at all.
    """
    form = format_of(path)
    if form == "parquet":
        yield from _parquet(path)
        return
    if form == "json":
        with _open_text(path, encoding) as stream:
            form = "jsonl" if is_lines(stream) else form
    with _open_text(path, encoding) as stream:
        if form == "jsonl":
            yield from _jsonl(stream, path.name)
        elif form == "json":
            yield from read_json(stream, path, split)
        else:
            yield from read_csv(_lines(stream, path.name), path.name, form, header, encoding)


def first_line_of_record(path: Path, line: int, encoding: str | None = None) -> int:
    """The number that `read_file` gives the record that holds this line: that of its first line."""
    form = format_of(path)
    if form not in ("csv", "tsv"):
        return line
    with _open_text(path, encoding) as stream:
        lines, delimiter = with_delimiter(_lines(stream, path.name), form)
        for number, _, text in csv_records(lines, path.name, delimiter):
            if number <= line < number + text.count("\n") + (not text.endswith("\n")):
                return number
    return line


def plain(value: Any) -> Any:
    """`value` as JSON could have it: dates and decimals as text, bytes as the text they hold, or else as base64."""
    match value:
        case None | str() | bool() | int() | float():
            return value
        case dict():
            return {str(key): plain(child) for key, child in value.items()}
        case list() | tuple():
            return [plain(child) for child in value]
        case bytes():
            text = value.decode("utf-8", "replace")
            return base64.b64encode(value).decode() if "\ufffd" in text else text
        case datetime.date() | datetime.time():
            return value.isoformat()
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def arrow_records(batch: pa.RecordBatch, start: int, name: str) -> Iterator[Record | BadRow]:
    """The rows of an Arrow batch, the first of which has the number `start`."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            yield bad_row(name, start, "invalid_utf8", f"is not UTF-8: {error}", unit="row")
            return
        for i in range(batch.num_rows):
            yield from arrow_records(batch.slice(i, 1), start + i, name)
        return
    yield from enumerate(map(plain, rows), start)


def _parquet(path: Path) -> Iterator[Record | BadRow]:
    """One batch in memory at a time. What cannot be read costs the row group it is in, and no other."""
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20)
    except (pa.ArrowException, OSError) as error:
        empty = not path.stat().st_size
        problem = "is empty (0 bytes)" if empty else f"cannot be read as parquet, is it cut off? {first_line(error)}"
        raise RowError(f"{path} {problem}") from error
    with file:
        refuse_repeated(file.schema_arrow.names, path.name)
        end = 0
        for group in range(file.num_row_groups):
            number, end = end + 1, end + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(batch_size=BATCH, row_groups=[group]):
                    yield from arrow_records(batch, number, path.name)
                    number += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                detail = f"rows {number} to {end} cannot be read: {first_line(error)}"
                yield bad_row(path.name, number, "broken_file", detail, unit="row")


@contextlib.contextmanager
def _open_text(path: Path, encoding: str | None) -> Iterator[IO[bytes]]:
    """Open a file of text as UTF-8, unzipped where it is zipped; refuse one that is plainly not what its name says."""
    try:
        with open(path, "rb") as raw:
            head = raw.read(64)
            raw.seek(0)
            zipped = head[:2] == b"\x1f\x8b"
            if not head:
                raise RowError(f"{path} is empty (0 bytes)")
            if path.suffix.lower() == ".gz" and not zipped:
                raise RowError(f"{path} is named .gz but is not gzip; rename it, or zip it again")
            for start, problem in _HEADS.items():
                if head.startswith(start) and encoding is None:
                    raise RowError(f"{path} {problem}")
            with gzip.GzipFile(fileobj=raw) if zipped else contextlib.nullcontext(raw) as stream:
                recoded = _AsUtf8(cast(IO[bytes], stream), encoding) if encoding else None
                yield cast(IO[bytes], io.BufferedReader(recoded, _CHUNK) if recoded else stream)
    except (PermissionError, FileNotFoundError) as error:
        raise RowError(f"{path} cannot be read: {error.strerror}") from error


class _AsUtf8(io.RawIOBase):
    """A file in another encoding as UTF-8. A byte that is none in it stays as it is, and its row is rejected."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream, self._ready = stream, b""
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        ended = False
        while not self._ready and not ended:
            data = self._stream.read(_CHUNK)
            ended = not data
            try:
                self._ready = self._decoder.decode(data, final=ended).encode("utf-8", "surrogateescape")
            except UnicodeError as error:
                raise OSError(str(error)) from error
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def _lines(stream: IO[bytes], name: str) -> Lines:
    """Numbered lines; one too long is a `BadRow`, and so is the rest of a file that breaks off."""
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(MAX_LINE + 1)
            size, head = len(line), line[:KEPT_TEXT]
            while size > MAX_LINE and line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
                size += len(line)
        except BROKEN as error:
            yield number, bad_row(name, number, "broken_file", f"nothing more can be read from here on: {error}")
            return
        if size > MAX_LINE:
            detail = f"is {size:,} bytes long; at most {MAX_LINE:,} are read"
            yield number, bad_row(name, number, "too_long", detail, head.decode("utf-8", "surrogateescape"))
        elif not line:
            return
        else:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")


def _jsonl(stream: IO[bytes], name: str) -> Iterator[Record | BadRow]:
    for number, line in _lines(stream, name):
        if isinstance(line, BadRow):
            yield line
        elif line.strip():
            try:
                line.encode()
                yield json_record(DECODER.decode(line), number, name, "line")
            except UnicodeEncodeError as error:
                detail = (
                    f"is not UTF-8: byte 0x{ord(line[error.start]) - 0xDC00:02x} at character {error.start}; "
                    f"{OTHER_ENCODING}"
                )
                yield bad_row(name, number, "invalid_utf8", detail, line)
            except (ValueError, RecursionError) as error:
                problem = "is nested too deeply" if isinstance(error, RecursionError) else f"is no JSON: {error}"
                yield bad_row(name, number, "broken_json", problem, line)
