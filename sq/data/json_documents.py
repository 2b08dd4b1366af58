"""A .json file as a stream of records: a list of objects, lines, or one document that holds the rows in another form.

A list is read piece by piece in bounded memory; the other documents have to be read whole. (pyarrow reads lines alone,
and `datasets` every document whole.)
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sq.core.errors import RowError
from sq.data.locate import SPLIT
from sq.data.records import BROKEN, KEPT_TEXT, MAX_LINE, BadRow, Record, bad_row, json_record, no_object

MAX_DOCUMENT = 512 * 2**20
"""Characters of a document that has to be read whole."""
DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # NaN and Infinity, which JSON lacks, are missing values
_SPACE = re.compile(r"[\s,]*")
_CHUNK = 2**18


def read_json(stream: IO[bytes], path: Path, split: str | None) -> Iterator[Record | BadRow]:
    """The records of a document. `split` picks among several lists, as in {"train": [...], "test": [...]}."""
    text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
    try:
        start = text.read(_CHUNK)
        if start.lstrip()[:1] != "[":
            start += text.read(MAX_DOCUMENT)
    except BROKEN as error:
        raise RowError(f"{path} cannot be read to its end: {error}") from error
    if start.lstrip()[:1] == "[":
        yield from _list(start.lstrip()[1:], text, path.name)
        return
    if len(start) > MAX_DOCUMENT:
        raise RowError(f"{path} is larger than {MAX_DOCUMENT:,} characters and no list of objects; write it as .jsonl")
    try:
        rows = _rows_of(DECODER.decode(start), path, split)
    except (ValueError, RecursionError) as error:
        problem = error if isinstance(error, ValueError) else "nested too deeply"
        raise RowError(f"{path} is no JSON: {problem}. A file of one object per line is .jsonl") from error
    for number, row in enumerate(rows, 1):
        yield json_record(row, number, path.name, "row")


def is_lines(stream: IO[bytes]) -> bool:
    """Whether a file named .json is of lines: its first one is an object, and another follows."""
    try:
        while (line := stream.readline(MAX_LINE)).isspace():
            pass
        line = line.removeprefix(b"\xef\xbb\xbf").lstrip()
        return line[:1] == b"{" and bool(DECODER.decode(line.decode()) and stream.read(_CHUNK).strip())
    except (ValueError, RecursionError, *BROKEN):
        return False


def _list(text: str, stream: IO[str], name: str) -> Iterator[Record | BadRow]:
    """The objects of a list. After a broken one it goes on at the next line that begins as the first object's."""
    indent = re.match(r"\s*\n([ \t]*)\{", text)
    mark = f"\n{indent[1]}{{" if indent else None
    at, number, ended, cut = 0, 0, False, ""
    while True:
        at = _end_of(_SPACE, text, at)
        problem = "the list does not end"
        if at < len(text):
            try:
                if text[at] == "]":
                    break
                value, end = DECODER.raw_decode(text, at)
                if end < len(text) or ended:
                    at, number = end, number + 1
                    yield json_record(value, number, name, "row")
                    continue
            except (ValueError, RecursionError) as error:
                problem = f"is no JSON: {error}"
        if not ended and len(text) - at <= MAX_LINE:
            more, cut = _read(stream, max(_CHUNK, len(text) - at))
            text, at, ended = text[at:] + more, 0, not more
            continue
        number += 1
        place = text.find(mark, at) if mark else -1
        if place < 0 or cut:
            detail = f"nothing more can be read from here on: {cut or problem}"
            yield bad_row(name, number, "broken_file", detail, text[at : at + KEPT_TEXT], unit="row")
            return
        yield bad_row(name, number, "broken_json", problem, text[at:place], unit="row")
        at = place
    if text[at + 1 :].strip() or _read(stream, _CHUNK)[0].strip():
        yield bad_row(name, number + 1, "broken_json", "text follows the end of the list; it is not read", unit="row")


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _read(stream: IO[str], size: int) -> tuple[str, str]:
    """More text, or nothing and why."""
    try:
        return stream.read(size), ""
    except BROKEN as error:
        return "", str(error)


def _rows_of(value: Any, path: Path, split: str | None) -> list[Any]:
    """The rows of a document: one of its lists, its columns, or itself."""
    if not isinstance(value, dict):
        raise RowError(f"{path} {no_object(value)}; write a list of objects")
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
