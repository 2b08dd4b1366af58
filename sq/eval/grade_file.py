"""`sq grade FILE`: anyone's outputs graded, row by row, into the same rows with a grade and the reason for it.

Rows stream through the grading processes in order; a line that cannot be read, or a row without its answer, becomes a
row that says so, counts in no score, and the rest go on.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sq.core.config import nearest
from sq.core.errors import ConfigError, RowError
from sq.data.locate import format_of
from sq.data.readers import BadRow, read_file
from sq.data.records import OTHER_ENCODING, check_encoding, with_c1_warning, with_encoding_key
from sq.eval.checkers import storable
from sq.eval.equal.numbers import EXACT
from sq.eval.grade import Grade, Pair
from sq.eval.grader import Grader
from sq.eval.grader_config import GraderConfig, Profile
from sq.eval.tolerances import check_tolerance, tolerance_of

SUFFIXES = (".jsonl.gz", ".jsonl", ".parquet", ".csv")
_CHUNK = 512
_GRADE_COLUMNS = ("extracted", "correct", "verdict", "reason")
_NO_UTF8 = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as the reader of csv leaves them in a text."""
_OTHER_ENCODING = with_encoding_key(OTHER_ENCODING, "--encoding")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a file are called. Only the first two must be there."""

    prediction: str = "prediction"
    reference: str = "reference"
    question: str = "question"
    finish_reason: str = "finish_reason"
    tolerance: str = "tolerance"
    relative_tolerance: str = "relative_tolerance"


@dataclass(kw_only=True)
class GradingSummary:
    """How many rows there are, how many of them could not be graded, and the statuses of the others by profile."""

    output: Path
    rows: int = 0
    errors: int = 0
    statuses: dict[str, Counter[str]] = field(default_factory=dict)

    def score(self, profile: str) -> float:
        """The share of the rows that could be graded that is correct under a profile."""
        graded = self.rows - self.errors
        return self.statuses[profile]["correct"] / graded if graded else 0.0


def grade_file(
    source: str | Path,
    output: str | Path | None = None,
    profiles: Sequence[str] = ("strict",),
    columns: Columns | None = None,
    config: GraderConfig | None = None,
    progress: Callable[[int], None] | None = None,
    encoding: str | None = None,
) -> GradingSummary:
    """Grade a file of outputs.

    Args:
        source: jsonl, json, csv, tsv (also with .gz) or parquet, with a prediction and a reference in each row.
        output: where the graded rows go: .jsonl, .jsonl.gz, .csv, .parquet; none: NAME.graded.SUFFIX beside the source.
        profiles: whose rules decide; the first one's columns are `extracted`, `correct`, `verdict` and `reason`, those
            of a further one carry its name in front (`dart_correct`).
        columns: what the columns are called.
        config: bounds of the grading processes.
        progress: called with the number of rows done.
        encoding: of text that is not UTF-8.

    Raises:
        ConfigError: an encoding that Python does not know.
        RowError: no such file, a format that is not read, a column that no row has or that grading writes.
    """
    path, target = Path(source), _target(Path(source), output)
    rules, names = _profiles(profiles), columns or Columns()
    rows = _checked(_read(path, {*_columns(rules, []), "error", "line"}, encoding), names, path)
    summary = GradingSummary(output=target, statuses={p.value: Counter() for p in rules})
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with Grader(config) as grader:
            graded = _counted(_graded(rows, grader, rules, names), summary, progress)
            _write(part, target, graded, () if ".jsonl" in _suffix(target) else _all_columns(path, encoding))
        part.replace(target)
    except OSError as error:  # what reading raises is a RowError by now
        raise RowError(f"{target} cannot be written: {error.strerror or error}; name another --output") from error
    finally:
        with suppress(OSError):  # where nothing can be written, nothing is there
            part.unlink(missing_ok=True)
    return summary


def _profiles(names: Sequence[str]) -> list[Profile]:
    valid = [p.value for p in Profile]
    for name in names:
        if name not in valid:
            raise RowError(f"there is no profile '{name}'{nearest(name, valid)} (profiles: {', '.join(valid)})")
    if not names:
        raise RowError(f"no profile is given; profiles: {', '.join(valid)}")
    return [Profile(n) for n in dict.fromkeys(names)]


def _target(source: Path, output: str | Path | None) -> Path:
    if source.is_dir():
        raise RowError(f"{source} is a directory; name a file in it")
    if not source.is_file():
        raise RowError(f"there is no file {source}")
    format_of(source)
    suffix = next((s for s in SUFFIXES if source.name.endswith(s)), ".jsonl")
    stem = source.name.removesuffix(".gz").rpartition(".")[0]
    target = Path(output) if output else source.with_name(f"{stem}.graded{suffix}")
    _suffix(target)
    if target.resolve() == source.resolve():
        raise RowError(f"the output {target} is the input; name another file")
    if target.is_dir():
        raise RowError(f"the output {target} is a directory; name a file")
    if not target.parent.is_dir():
        raise RowError(f"there is no directory {target.parent} to write {target.name} to")
    return target


def _suffix(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise RowError(f"the output {path} is not .jsonl, .jsonl.gz, .csv or .parquet by its name")


def _read(path: Path, added: set[str], encoding: str | None) -> Iterator[Row | BadRow]:
    """The rows of a file, and what is none; a column that would be overwritten is refused."""
    try:
        check_encoding(encoding)
    except ValueError as error:
        raise ConfigError(f"--{error}") from error
    records = (_keyed(r) if isinstance(r, BadRow) else r[1] for r in read_file(path, encoding=encoding))
    try:
        for row in with_c1_warning(records, path.name, "--encoding"):
            if not isinstance(row, BadRow) and (taken := added.intersection(row)):
                fix = "which grading writes; rename or drop it in the file"
                raise RowError(f"{path} has a column '{min(taken)}', {fix}")
            yield row
    except RowError as error:
        raise RowError(with_encoding_key(str(error), "--encoding")) from error


def _keyed(bad: BadRow) -> BadRow:
    return replace(bad, detail=with_encoding_key(bad.detail, "--encoding"))


def _checked(rows: Iterator[Row | BadRow], names: Columns, path: Path) -> Iterator[Row | BadRow]:
    """The rows, once the first readable ones are seen to have the columns that are needed."""
    head = list(islice(rows, _CHUNK))
    if not head:
        raise RowError(f"{path} has no rows")
    there = dict.fromkeys(key for row in head if not isinstance(row, BadRow) for key in row)
    if not there:
        bad = next((f": {row}" for row in head if isinstance(row, BadRow)), ", its rows are empty")
        raise RowError(f"{path} has no row that can be read{bad}")
    for option, name in (("prediction", names.prediction), ("reference", names.reference)):
        if name not in there:
            hint = nearest(name, there)
            raise RowError(
                f"{path} has no column '{name}'{hint} (columns: {', '.join(there)}); name the {option} with --{option}"
            )
    return chain(head, rows)


def _graded(rows: Iterator[Row | BadRow], grader: Grader, rules: list[Profile], names: Columns) -> Iterator[Row]:
    while chunk := list(islice(rows, _CHUNK)):
        pairs = [str(row) if isinstance(row, BadRow) else _pair(row, names) for row in chunk]
        good = [p for p in pairs if isinstance(p, Pair)]
        grades = [iter(list(grader.grade(good, profile))) for profile in rules]
        for row, pair in zip(chunk, pairs, strict=True):
            columns = {"line": row.line} if isinstance(row, BadRow) else row
            if isinstance(pair, Pair):
                yield {**columns, **_columns(rules, [next(g) for g in grades])}
            else:
                yield {**columns, **_columns(rules, []), "error": pair}


def _pair(row: Row, names: Columns) -> Pair | str:
    """The row as a pair, or what is wrong with it."""
    for name, value in row.items():
        if isinstance(value, str) and (byte := _NO_UTF8.search(value)):
            place = f"byte 0x{ord(byte[0]) - 0xDC00:02x} at character {byte.start()}"
            return f"{name} is not UTF-8: {place}; {_OTHER_ENCODING}"
    values = {}
    for option, name in (("prediction", names.prediction), ("reference", names.reference)):
        value = row.get(name)
        if isinstance(value, list | tuple) and option == "reference" and value:
            value = ", ".join(str(v) for v in value)
        if isinstance(value, list | tuple) and option == "prediction":
            return f"{name} is list; give each of its {len(value)} answers a row of its own"
        if value is None or value != value:  # NaN is how a table writes nothing
            return f"{name} is missing; a text or a number is needed"
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return f"{name} is {type(value).__name__} ({str(value)[:40]}); a text or a number is needed"
        values[option] = str(value)
    if not values["reference"].strip():  # an empty prediction is an output without an answer
        return f"{names.reference} is empty; a text or a number is needed"
    errors = {"tolerance": row.get(names.tolerance), "relative": row.get(names.relative_tolerance)}
    try:
        check_tolerance(errors, values["reference"])
        allowed = tolerance_of(errors, EXACT)
    except ValueError as error:
        return str(error)
    reason = row.get(names.finish_reason)
    return Pair(
        prediction=values["prediction"],
        reference=values["reference"],
        question=str(row.get(names.question) or ""),
        tolerance=allowed.absolute,
        relative_tolerance=allowed.relative,
        finish_reason=None if reason is None else str(reason),
    )


def _columns(rules: list[Profile], grades: list[Grade]) -> Row:
    """The columns that are added to a row; without grades, those of a row that could not be graded."""
    added: Row = {}
    for place, profile in enumerate(rules):
        grade = grades[place] if grades else None
        values = (
            (grade.extracted, grade.correct, grade.status.value, grade.reason) if grade else (None, False, None, None)
        )
        front = f"{profile.value}_" if place else ""
        added.update({front + name: value for name, value in zip(_GRADE_COLUMNS, values, strict=True)})
    return added


def _counted(rows: Iterator[Row], summary: GradingSummary, progress: Callable[[int], None] | None) -> Iterator[Row]:
    for row in rows:
        summary.rows += 1
        summary.errors += row["verdict"] is None
        for place, (profile, statuses) in enumerate(summary.statuses.items()):
            if status := row[f"{profile}_verdict" if place else "verdict"]:
                statuses[status] += 1
        if progress is not None:
            progress(summary.rows)
        yield row


def _all_columns(path: Path, encoding: str | None) -> dict[str, None]:
    """The columns that any row of a file has, and what a line that is no row gets: a table names all of them first."""
    records = read_file(path, encoding=encoding)
    return dict.fromkeys(name for r in records for name in (("line",) if isinstance(r, BadRow) else r[1]))


def _write(part: Path, target: Path, rows: Iterator[Row], names: Iterable[str]) -> None:
    if target.name.endswith(".parquet"):
        _write_parquet(part, rows, names)
    elif target.name.endswith(".csv"):
        head = list(islice(rows, _CHUNK))
        every = dict.fromkeys([*(key for row in head for key in row), "error", *names])
        with part.open("w", encoding="utf-8", newline="", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, list(every))
            writer.writeheader()
            writer.writerows({k: _text(v) for k, v in row.items() if v is not None} for row in chain(head, rows))
    else:
        zipped = target.name.endswith(".gz")
        with gzip.open(part, "wt", encoding="ascii") if zipped else part.open("w", encoding="ascii") as lines:
            lines.writelines(json.dumps(row, default=str) + "\n" for row in rows)


def _write_parquet(part: Path, rows: Iterator[Row], names: Iterable[str]) -> None:
    """A column that begins after the first rows is text."""
    writer: pq.ParquetWriter | None = None
    try:
        while chunk := list(islice(rows, 4 * _CHUNK)):
            if writer is None:
                every = dict.fromkeys(["error", *(key for row in chunk for key in row), *names])
                writer = pq.ParquetWriter(part, pa.schema([(n, _type([r.get(n) for r in chunk])) for n in every]))
            texts = {f.name for f in writer.schema if pa.types.is_string(f.type)}
            plain = [{k: _text(v) if k in texts and v is not None else v for k, v in row.items()} for row in chunk]
            writer.write_table(pa.Table.from_pylist(plain, schema=writer.schema))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RowError(f"the rows have no common type for parquet ({error}); name a .jsonl output") from error
    finally:
        if writer is not None:
            writer.close()


def _type(values: list[Any]) -> pa.DataType:
    """The type of a column; text where its values have none in common."""
    try:
        common = pa.array([storable(v) if isinstance(v, str) else v for v in values]).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()
    return pa.string() if pa.types.is_null(common) else common


def _text(value: Any) -> str:
    return storable(value if isinstance(value, str) else json.dumps(value, default=str))
