"""A .json file as a stream of records: a list of objects, an object of lists, an object that holds a list, or lines.

A list is read piece by piece in bounded memory, however long it is; the other shapes have to be read whole.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sq.core.errors import RowError
from sq.data.locate import SPLIT
from sq.data.readers import (
    DECODER,
    KEPT_TEXT,
    MAX_LINE,
    BadRow,
    Record,
    bad_row,
    not_an_object,
    open_binary,
    read_jsonl,
)

MAX_DOCUMENT = 512 * 2**20
"""A document that is no list of objects must be read whole; above this it should be written another way."""

_SPACE = re.compile(r"[ \t\r\n]*")
_CHUNK = 2**18


def read_json(path: Path, split: str | None = None) -> Iterator[Record | BadRow]:
    """The records of a .json file. `split` picks among several lists, as in {"train": [...], "test": [...]}."""
    with open_binary(path) as stream:
        window = _Window(stream)
        if window.next_char() == "[":
            yield from _list(window, path.name)
            return
    if _is_jsonl(path):
        yield from read_jsonl(path)
        return
    for number, value in enumerate(_document(path, split), 1):
        yield _item(value, number, path.name)


class _Window:
    """A piece of a text stream that grows where more is needed and drops what has been read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._first = True
        self.text, self.at, self.ended = "", 0, False
        self.error: Exception | None = None

    def more(self, size: int = _CHUNK) -> None:
        """Read on; `ended` is true afterwards where there was nothing more."""
        try:
            data = self._stream.read(size)
        except (EOFError, OSError, zlib.error) as error:
            self.error, data = error, b""
        if self._first:
            data, self._first = data.removeprefix(codecs.BOM_UTF8), False
        self.ended = not data
        self.text = self.text[self.at :] + self._decoder.decode(data, final=self.ended)
        self.at = 0

    def next_char(self) -> str:
        """The next character that is no space, not passed over; empty at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def value(self) -> Any:
        """The JSON value that begins here.

        Raises:
            ValueError: where there is none, be it broken or cut off.
        """
        size = _CHUNK
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended:
                    self.at = end
                    return value
            except RecursionError as error:
                raise ValueError("nested too deeply to be read") from error
            except ValueError:
                if self.ended or len(self.text) - self.at > MAX_LINE:
                    raise
            self.more(size)
            size *= 2

    def seek(self, mark: str) -> bool:
        """Go to just behind the next `mark`; False where there is none in what remains."""
        while (found := self.text.find(mark, self.at)) < 0:
            self.at = max(self.at, len(self.text) - len(mark))
            if self.ended:
                return False
            self.more()
        self.at = found + len(mark)
        return True


def _list(window: _Window, name: str) -> Iterator[Record | BadRow]:
    """The objects of a list. Behind a broken one it goes on at the next line that begins like the first object's."""
    window.at += 1
    indent = re.match(r"\s*\n([ \t]*)\{", window.text[window.at : window.at + 200])
    mark = f"\n{indent[1]}{{" if indent else None
    number = 0
    while window.next_char() != "]":
        number += 1
        try:
            yield _item(window.value(), number, name)
            if window.next_char() in (",", "]"):
                window.at += window.next_char() == ","
                continue
            number += 1
            problem = "a comma or the closing bracket of the list is expected here"
        except ValueError as error:
            problem = f"is no JSON: {error}"
        text = window.text[window.at : window.at + KEPT_TEXT]
        if mark is None or window.error or not window.seek(mark):
            detail = f"nothing more can be read from here on: {window.error or problem}"
            yield bad_row(name, number, "broken_file", detail, text, unit="row")
            return
        window.at -= 1
        yield bad_row(name, number, "broken_json", problem, text[: text.find(mark)], unit="row")
    window.at += 1
    if window.next_char():
        yield bad_row(
            name, number + 1, "broken_json", "text follows the end of the list; it is not read", "", unit="row"
        )


def _item(value: Any, number: int, name: str) -> Record | BadRow:
    if isinstance(value, dict):
        return number, value
    return bad_row(name, number, "not_an_object", not_an_object(value), json.dumps(value), unit="row")


def _is_jsonl(path: Path) -> bool:
    """Whether this is a file of lines under the name .json: its first line is an object, and more follow."""
    with open_binary(path) as stream:
        try:
            first = stream.readline(MAX_LINE)
            while first and not first.strip():
                first = stream.readline(MAX_LINE)
            value = DECODER.decode(first.decode("utf-8-sig"))
            return isinstance(value, dict) and bool(stream.read(_CHUNK).strip())
        except (ValueError, RecursionError, EOFError, OSError, zlib.error):
            return False


def _document(path: Path, split: str | None) -> list[Any]:
    with open_binary(path) as stream:
        try:
            data = stream.read(MAX_DOCUMENT + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise RowError(f"{path} cannot be read to its end: {error}") from error
    if len(data) > MAX_DOCUMENT:
        raise RowError(f"{path} is larger than {MAX_DOCUMENT:,} bytes and no list of objects; write it as .jsonl")
    try:
        value = DECODER.decode(data.decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise RowError(
            f"{path} is no JSON: {error or 'nested too deeply'}. A file of one object per line is .jsonl"
        ) from error
    return _rows_of(value, path, split)


def _rows_of(value: Any, path: Path, split: str | None) -> list[Any]:
    if not isinstance(value, dict):
        raise RowError(f"{path} {not_an_object(value)}; write a list of objects")
    tables = {k: v for k, v in value.items() if isinstance(v, list) and v and all(isinstance(r, dict) for r in v)}
    if split in tables:
        return list(tables[str(split)])
    if len(tables) == 1:
        return list(*tables.values())
    if tables:
        raise RowError(f"{path} holds several lists ({', '.join(tables)}); say which: {SPLIT.format('...')}")
    if value and all(isinstance(v, dict) for v in value.values()):  # pandas' own form: column -> index -> value
        value = {k: list(v.values()) for k, v in value.items()}
    if value and all(isinstance(v, list) for v in value.values()):
        lengths = {k: len(v) for k, v in value.items()}
        if len(set(lengths.values())) > 1:
            raise RowError(f"the columns of {path} differ in length: {lengths}")
        return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    return [value] if value else []
