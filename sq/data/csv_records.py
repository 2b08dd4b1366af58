"""Records of CSV and TSV, by Python's own `csv`: asked for one at a time, so that a broken one costs itself alone."""

from __future__ import annotations

import csv
import itertools
import re
from collections import deque
from collections.abc import Iterator

from sq.core.errors import RowError
from sq.data.records import (
    MAX_LINE,
    OTHER_ENCODING,
    BadRow,
    Lines,
    Record,
    bad_row,
    has_undecoded_bytes,
    refuse_repeated,
    with_given_encoding,
)

MAX_RECORD_LINES = 2_000
"""Lines a CSV record may span; a quote that is never closed must not swallow the rest of the file."""
_QUOTED = re.compile(r'(^|[,;\t|])"(?:[^"]|"")*"')
"""A quoted field; an inch mark within a field quotes nothing."""
_OPEN_QUOTE = re.compile(r'(^|[,;\t|])"[^"]*$')
MAX_HEADER_LINES = 20
"""A name in the header may be quoted over several lines."""


def read_csv(lines: Lines, name: str, form: str, header: bool, encoding: str | None) -> Iterator[Record | BadRow]:
    """A field may hold line breaks in quotes. Tab-separated files that do not quote at all are read too."""
    names: list[str] | None = None
    lines, delimiter = with_delimiter(lines, form, header)
    for number, fields, raw in csv_records(lines, name, delimiter):
        if isinstance(fields, BadRow):
            if names is None and header:
                raise RowError(f"the header of {name} cannot be read: {fields.detail}")
            yield fields
        elif names is None and header:
            names = [field.strip() or f"column {i}" for i, field in enumerate(fields)]
            refuse_repeated(names, f"the header of {name}")
            if has_undecoded_bytes("".join(names)):
                problem = f"the header of {name} is not UTF-8; {OTHER_ENCODING}"
                raise RowError(with_given_encoding(problem, encoding) if encoding else problem)
        elif len(fields) > 1 or any(field.strip() for field in fields):
            names = names or [str(i) for i in range(len(fields))]
            if len(fields) != len(names):
                detail = f"has {len(fields)} fields where {len(names)} are expected ({', '.join(names)})"
                yield bad_row(name, number, "field_count", detail, raw)
            elif has_undecoded_bytes(raw):
                column = next(n for n, field in zip(names, fields, strict=True) if has_undecoded_bytes(field))
                yield bad_row(name, number, "invalid_utf8", f"column {column!r} is not UTF-8; {OTHER_ENCODING}", raw)
            else:
                yield number, dict(zip(names, fields, strict=True))


def _from_first_text(lines: Lines) -> Lines:
    """The lines without the empty ones before the first."""
    return itertools.dropwhile(lambda line: isinstance(line[1], str) and not line[1].strip(" \r\n"), lines)


def with_delimiter(lines: Lines, form: str, header: bool = True) -> tuple[Lines, str]:
    """The lines, and what their fields are told apart by, as far as the first of them shows it outside of quotes.

    A bar is in formulas too: it tells only the names of a header apart, and where the next line has as many. Excel may
    say it in a line of its own, `sep=;`.
    """
    csv.field_size_limit(MAX_LINE)
    lines = _from_first_text(lines)
    first = next(lines, (0, ""))
    text = first[1] if isinstance(first[1], str) else ""
    if "\r" in _QUOTED.sub("", text).rstrip("\r\n"):
        if following := next(lines, None):
            lines = itertools.chain([following], lines)
        else:  # the whole file: lines as old Macs end them
            lines = _from_first_text(enumerate((line + "\n" for line in text.rstrip("\r\n").split("\r")), 1))
            first = next(lines)
            text = str(first[1])
    if form != "tsv" and (said := re.fullmatch(r"(?i:sep)=(.)\s*", text)):
        return lines, said[1]
    ahead, bare = [first], _QUOTED.sub(r"\1", text)
    while len(ahead) < MAX_HEADER_LINES and _OPEN_QUOTE.search(bare) and (line := next(lines, None)):
        ahead.append(line)
        if not isinstance(line[1], str):
            break
        text += line[1]
        bare = _QUOTED.sub(r"\1", text)
    delimiter = "\t" if form == "tsv" else next((d for d in ",;\t" if d in bare), ",")
    if header and delimiter == "," and "," not in bare and "|" in bare and all(map(str.strip, text.split("|"))):
        second = list(itertools.islice(lines, 1))
        ahead += second
        if second and _QUOTED.sub(r"\1", str(second[0][1])).count("|") == bare.count("|"):
            delimiter = "|"
    return itertools.chain(ahead, lines), delimiter


def csv_records(lines: Lines, name: str, delimiter: str) -> Iterator[tuple[int, list[str] | BadRow, str]]:
    """Each record as its first line's number, its fields and its text; a line that begins none is rejected alone."""
    ahead: deque[tuple[int, str | BadRow]] = deque()  # what was read for a record that it was no part of
    while True:
        taken: list[tuple[int, str]] = []
        try:
            fields = next(csv.reader(_lines_of_a_record(lines, ahead, taken), delimiter=delimiter, strict=True), None)
        except csv.Error as error:
            ahead.extendleft(taken[:0:-1])
            number, text = taken[0]
            if delimiter == "\t":  # quotes that mean nothing: the line as it stands
                yield number, text.rstrip("\r\n").split("\t"), text
            else:
                yield number, bad_row(name, number, "broken_csv", f"is no CSV record: {error}", text), text
        else:
            if fields is not None:
                yield taken[0][0], fields, "".join(text for _, text in taken)
            elif ahead and isinstance(bad := ahead.popleft()[1], BadRow):
                yield bad.line, bad, bad.text
            else:
                return


def _lines_of_a_record(
    lines: Lines, ahead: deque[tuple[int, str | BadRow]], taken: list[tuple[int, str]]
) -> Iterator[str]:
    """Lines, of which `csv` takes as many as a record needs; those it took are in `taken`."""
    size = 0
    while len(taken) < MAX_RECORD_LINES and size <= MAX_LINE:
        entry = ahead.popleft() if ahead else next(lines, None)
        if entry is None:
            return
        number, line = entry
        if isinstance(line, BadRow):
            ahead.appendleft(entry)
            return
        size += len(line)
        taken.append((number, line))
        yield line
