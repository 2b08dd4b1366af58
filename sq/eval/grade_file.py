"""`sq grade FILE`: anyone's outputs graded, row by row, into the same rows with a verdict and the reason for it.

Rows stream through the grading processes in order; a line that cannot be read, or a row without its answer, becomes a
row that says so, and the rest go on.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sq.core.config import nearest
from sq.core.errors import RowError
from sq.eval.grade import Grade, Pair
from sq.eval.grader import Grader
from sq.eval.grader_config import GraderConfig, Profile

_CHUNK = 512
_ADDED = ("extracted", "correct", "verdict", "reason")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a file are called. Only the first two must be there."""

    prediction: str = "prediction"
    reference: str = "reference"
    question: str = "question"
    finish_reason: str = "finish_reason"
    tolerance: str = "tolerance"


@dataclass(kw_only=True)
class GradingSummary:
    """How many rows were graded, how many could not be, and the verdicts by profile."""

    output: Path
    rows: int = 0
    errors: int = 0
    verdicts: dict[str, Counter[str]] = field(default_factory=dict)

    def score(self, profile: str) -> float:
        """The share of all rows that is correct under a profile."""
        return self.verdicts[profile]["correct"] / self.rows if self.rows else 0.0


def grade_file(
    source: str | Path,
    output: str | Path | None = None,
    profiles: Sequence[str] = ("strict",),
    columns: Columns | None = None,
    config: GraderConfig | None = None,
    progress: Callable[[int], None] | None = None,
) -> GradingSummary:
    """Grade a file of outputs.

    Args:
        source: jsonl, jsonl.gz or parquet, with a prediction and a reference in each row.
        output: where the graded rows go, by suffix one of the same; none: beside the source, `NAME.graded.SUFFIX`.
        profiles: whose rules decide; the first one's columns are `extracted`, `correct`, `verdict` and `reason`, those
            of a further one carry its name in front (`dart_correct`).
        columns: what the columns are called.
        config: bounds of the grading processes.
        progress: called with the number of rows done.

    Raises:
        RowError: no such file, a format that is not read, a column that no row has.
    """
    path, target = Path(source), _target(Path(source), output)
    rules, names = _profiles(profiles), columns or Columns()
    rows = _checked(_read(path), names, path)
    summary = GradingSummary(output=target, verdicts={p.value: Counter() for p in rules})
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with Grader(config) as grader:
            _write(part, target, _counted(_graded(rows, grader, rules, names), summary, rules, progress))
        part.replace(target)
    except OSError as error:  # what reading raises is a RowError by now
        raise RowError(f"{target} cannot be written: {error.strerror or error}; name another --output") from error
    finally:
        _remove_partial(part)
    return summary


def _remove_partial(part: Path) -> None:
    with suppress(OSError):  # where nothing can be written, nothing is there
        part.unlink(missing_ok=True)


def grade_rows(
    rows: Iterable[Row], grader: Grader, profiles: Sequence[str], columns: Columns | None = None
) -> Iterator[Row]:
    """The same rows with their grades, in order; for rows that are in memory or come from elsewhere."""
    return _graded(iter(rows), grader, _profiles(profiles), columns or Columns())


def _profiles(names: Sequence[str]) -> list[Profile]:
    valid = [p.value for p in Profile]
    for name in names:
        if name not in valid:
            raise RowError(f"there is no profile '{name}'{nearest(name, valid)} (profiles: {', '.join(valid)})")
    if not names:
        raise RowError(f"no profile is given; profiles: {', '.join(valid)}")
    return [Profile(n) for n in dict.fromkeys(names)]


def _target(source: Path, output: str | Path | None) -> Path:
    suffix = _suffix(source)
    target = Path(output) if output else source.with_name(source.name.removesuffix(suffix) + ".graded" + suffix)
    _suffix(target)
    if target.resolve() == source.resolve():
        raise RowError(f"the output {target} is the input; name another file")
    if source.is_dir():
        raise RowError(f"{source} is a directory; name a file in it")
    if not source.is_file():
        raise RowError(f"there is no file {source}")
    if target.is_dir():
        raise RowError(f"the output {target} is a directory; name a file")
    if not target.parent.is_dir():
        raise RowError(f"there is no directory {target.parent} to write {target.name} to")
    return target


def _suffix(path: Path) -> str:
    for suffix in (".jsonl.gz", ".jsonl", ".parquet"):
        if path.name.endswith(suffix):
            return suffix
    raise RowError(f"{path} is not .jsonl, .jsonl.gz or .parquet by its name")


def _read(path: Path) -> Iterator[Row]:
    if path.name.endswith(".parquet"):
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_CHUNK):
                    yield from batch.to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise RowError(f"{path} cannot be read as parquet: {error}") from error
        return
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _parsed(line, number)
    except (OSError, EOFError, zlib.error) as error:
        raise RowError(f"{path} cannot be read to its end: {error}") from error


def _parsed(line: bytes, number: int) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {"line": number, "error": f"line {number} is not JSON ({_start(line)}): {error}"}
    if not isinstance(row, dict):
        return {"line": number, "error": f"line {number} is {type(row).__name__}, not an object: {_start(line)}"}
    return row


def _start(line: bytes) -> str:
    text = line[:200].decode("utf-8", "replace").strip()
    return repr(text[:40] + ("..." if len(text) > 40 else ""))


def _checked(rows: Iterator[Row], names: Columns, path: Path) -> Iterator[Row]:
    """The rows, once the first readable ones are seen to have the columns that are needed."""
    head = list(islice(rows, _CHUNK))
    if not head:
        raise RowError(f"{path} has no rows")
    found = dict.fromkeys(key for row in head if not _unreadable(row) for key in row)
    if not found:
        raise RowError(f"{path} has no row that can be read: {next((r['error'] for r in head), 'its rows are empty')}")
    for option, name in (("prediction", names.prediction), ("reference", names.reference)):
        if name not in found:
            hint = nearest(name, found)
            raise RowError(
                f"{path} has no column '{name}'{hint} (columns: {', '.join(found)}); name the {option} with --{option}"
            )
    return _chained(head, rows)


def _chained(head: list[Row], rest: Iterator[Row]) -> Iterator[Row]:
    yield from head
    yield from rest


def _unreadable(row: Row) -> bool:
    return set(row) == {"line", "error"}


def _graded(rows: Iterator[Row], grader: Grader, rules: list[Profile], names: Columns) -> Iterator[Row]:
    while chunk := list(islice(rows, _CHUNK)):
        pairs = [_pair(row, names) for row in chunk]
        good = [p for p in pairs if isinstance(p, Pair)]
        grades = [iter(list(grader.grade(good, profile))) for profile in rules]
        for row, pair in zip(chunk, pairs, strict=True):
            if isinstance(pair, Pair):
                yield {**row, **_columns([next(g) for g in grades])}
            else:
                yield {**row, **_empty_grade(rules), "error": pair}


def _pair(row: Row, names: Columns) -> Pair | str:
    """The row as a pair, or what is wrong with it."""
    if _unreadable(row):
        return str(row["error"])
    values = {}
    for option, name in (("prediction", names.prediction), ("reference", names.reference)):
        value = row.get(name)
        if isinstance(value, list | tuple) and option == "reference" and value:
            value = ", ".join(str(v) for v in value)
        if isinstance(value, list | tuple) and option == "prediction":
            return f"{name} is list; give each of its {len(value)} answers a row of its own"
        if value is None or value != value:  # NaN is how a table writes nothing
            return f"{name} is missing; a text or a number is needed"
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            return f"{name} is {type(value).__name__} ({str(value)[:40]}); a text or a number is needed"
        values[option] = str(value)
    tolerance = row.get(names.tolerance)
    try:
        allowed = None if tolerance in (None, "") else float(str(tolerance))
    except ValueError:
        return f"{names.tolerance} is {tolerance!r}; a number is needed"
    reason = row.get(names.finish_reason)
    return Pair(
        **values,
        question=str(row.get(names.question) or ""),
        tolerance=allowed,
        finish_reason=None if reason is None else str(reason),
    )


def _columns(grades: list[Grade]) -> Row:
    added: Row = {}
    for place, grade in enumerate(grades):
        front = "" if place == 0 else f"{grade.profile.value}_"
        values = (grade.extracted, grade.correct, grade.status.value, grade.reason)
        added.update({front + name: value for name, value in zip(_ADDED, values, strict=True)})
    return added


def _empty_grade(rules: list[Profile]) -> Row:
    fronts = ["", *(f"{p.value}_" for p in rules[1:])]
    return {front + name: False if name == "correct" else None for front in fronts for name in _ADDED}


def _counted(
    rows: Iterator[Row], summary: GradingSummary, rules: list[Profile], progress: Callable[[int], None] | None
) -> Iterator[Row]:
    for row in rows:
        summary.rows += 1
        summary.errors += row["verdict"] is None
        for place, profile in enumerate(rules):
            verdict = row["verdict" if place == 0 else f"{profile.value}_verdict"]
            summary.verdicts[profile.value][verdict or "error"] += 1
        if progress is not None:
            progress(summary.rows)
        yield row


def _write(part: Path, target: Path, rows: Iterator[Row]) -> None:
    if target.name.endswith(".parquet"):
        _write_parquet(part, rows)
        return
    opened = (
        gzip.open(part, "wt", encoding="ascii") if target.name.endswith(".gz") else part.open("w", encoding="ascii")
    )
    with opened as file:
        for row in rows:
            file.write(json.dumps(row, default=str) + "\n")


def _write_parquet(part: Path, rows: Iterator[Row]) -> None:
    writer: pq.ParquetWriter | None = None
    try:
        while chunk := list(islice(rows, 4 * _CHUNK)):
            if writer is None:
                names = dict.fromkeys(["error", *(key for row in chunk for key in row)])
                writer = pq.ParquetWriter(part, pa.schema([(n, _type([r.get(n) for r in chunk])) for n in names]))
            writer.write_table(pa.Table.from_pylist([_storable(r, writer.schema) for r in chunk], schema=writer.schema))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RowError(f"the rows have no common type for parquet ({error}); name a .jsonl output") from error
    finally:
        if writer is not None:
            writer.close()


def _type(values: list[Any]) -> pa.DataType:
    """The type of a column; text where its values have none in common."""
    try:
        found = pa.array([v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for v in values]).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()
    return pa.string() if pa.types.is_null(found) else found


def _storable(row: Row, schema: pa.Schema) -> Row:
    texts = {f.name for f in schema if pa.types.is_string(f.type)}
    return {k: _text(v) if k in texts and v is not None else v for k, v in row.items()}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("utf-8", "replace").decode()
