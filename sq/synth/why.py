"""The story of one row: every stage that made it, judged it, was made from it or rejected it, in the order it happened.

Rows keep their id for life and name their parents, so the story is in the stages' directories alone; an index of ids
in each of them (`sq.core.row_index`) says which rows to read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from sq.core.count import count_noun, printable
from sq.core.errors import LedgerError, SqError
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.core.manifest import Manifest
from sq.core.rejects import TRAINING_FILE
from sq.core.row_index import RowIndex, StoredRow
from sq.core.rows import SEEDS
from sq.data.readers import first_line_of_record
from sq.data.sources import SourceConfig, digest

ORDER = ("annotate", "questions", "rewrite", "fail_rate", "filter", "answers", "select")
SHORTEST_ID = 6
LONG = 400
_PLACE = re.compile(r"(.+\.\w+):(\d+)")
"""FILE:LINE of an input. Rows keep a file's name and the digest of its content."""


def why(row: str, roots: Iterable[Path]) -> str:
    """The story of a row, from the stages found below `roots`: of the one whose id starts with `row`, or that came from
    `FILE:LINE` of an input. Of a directory, why its rows were rejected.

    Raises:
        SqError: where there is no stage, no such row, or more than one.
    """
    return "\n".join(map(printable, _lines(row, list(roots))))


def _lines(row: str, roots: Sequence[Path]) -> Iterator[str]:
    if Path(row).is_dir():
        return _format_rejects(Path(row))
    place = _PLACE.fullmatch(row)
    if "/" in row and place is None:
        raise SqError(f"there is no directory {row}; give one of a stage, the id of a row, or FILE:LINE")
    stages = list(_stages(roots))
    if not stages:
        raise SqError(f"no stage's output is below {', '.join(map(str, roots))}; say where: --in DIRECTORY")
    if place is None and len(row) < SHORTEST_ID:
        raise SqError(f"{row!r} is too short for an id: give at least {SHORTEST_ID} characters of it")
    if place is None:
        matches = {record.id for stage in stages for record in stage.index.starting_with(row)}
        if not matches and any(any(stage.index.of((), made_from=[row])) for stage in stages):
            matches = {row}  # a row that is in no stage: the line of a file that others were made from
    else:
        found = _of_line(place[1], int(place[2]), stages)
        matches = {origin for one in found for origin in one.origins}
        if found and not matches:  # a line that never was a row
            return _format_story("", [(one.stage, one.record) for one in found])
    if len(matches) != 1:
        listed = (
            f"{len(matches)} rows {'begin so' if place is None else 'are from it'}: {', '.join(sorted(matches)[:5])}"
            if matches
            else "no row or reject has it"
        )
        if not matches and place is not None and "/" not in row and Path(place[1]).suffix.lower() in (".csv", ".tsv"):
            listed += f" (a line within a record is found by the file's path, as ./{row})"
        looked = ", ".join(_short_path(stage.directory) for stage in stages)
        raise SqError(f"{row}: {listed}. Looked at: {looked}")
    origin = matches.pop()
    ancestors = _ancestors(origin, stages)
    story = [(stage, record) for stage in stages for record in stage.index.of({*ancestors, origin}, made_from=[origin])]
    return _format_story(origin, story)


@dataclass(frozen=True, slots=True)
class _Found:
    """A record that is a line of an input or was made from it, and the ids of the rows that stood in the line."""

    stage: AnyStage
    record: StoredRow
    origins: set[str]


def _of_line(file: str, line: int, stages: Sequence[AnyStage]) -> list[_Found]:
    """The rows and rejects of a line of a file, else those made from it: a path is that file, by its content; a bare
    name any of that name."""
    path = Path(file)
    if path.name != file and not path.is_file():
        raise SqError(f"{file} is no file here; by its name alone: sq why {path.name}:{line}")
    found, others = list[_Found](), 0
    for stage in stages:
        source, first = replace(stage.source, input=file), line
        if path.name != file:
            first = _first_line(path, line, source.encoding)
        for record in stage.from_line(path.name, first):
            known = _digests_of(stage, record) if path.name != file else set()
            if known and digest(source) not in known:
                others += 1
            else:
                found.append(_Found(stage, record, _origins(record, f"{path.name}:{first}")))
    if others and not found:
        raise SqError(
            f"{file}: what was read as {path.name} has other content: it was another file of that name, one of several "
            f"that were read together, or has changed since; by its name alone: sq why {path.name}:{line}"
        )
    return [one for one in found if not one.record.origins] or found


@lru_cache
def _first_line(path: Path, line: int, encoding: str | None) -> int:
    try:
        return first_line_of_record(path, line, encoding)
    except SqError:  # in an encoding that the stage's directory does not tell, or of a format without lines
        return line


def _origins(record: StoredRow, place: str) -> set[str]:
    """The id of the row that stood at this place: the record's own, or of that which it was made from."""
    if seeds := {id for id, its_place in _seeds(record.row).items() if its_place == place}:
        return seeds
    parents = record.row.get("parents")
    return {parents[-1]} if parents else {record.id} - {""}


def _seeds(row: Mapping[str, Any]) -> dict[str, str]:
    """The seeds that a question was made from: FILE:LINE by id."""
    text = row.get("extra")
    if not isinstance(text, str) or f'"{SEEDS}"' not in text:
        return {}
    with suppress(ValueError, AttributeError):
        return {str(id): str(place) for id, place in json.loads(text)[SEEDS].items()}
    return {}


def _digests_of(stage: AnyStage, record: StoredRow) -> set[str]:
    """Digests of what a record was read from, as far as it is known."""
    kind, _, own = str(record.row.get("run") or "").partition(":")
    if kind == "source":
        return {own}
    return set(stage.manifest.inputs.values()) if isinstance(stage, Stage) else set()


class Stage:
    """A stage's directory and where its rows stand in it."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory, self.name = directory, str(manifest.config.get("stage.name") or directory.name)
        self.manifest, self.reasons = manifest, manifest.reasons
        self.counts = f"{manifest.items:,} items in, {manifest.rows:,} rows, {manifest.rejects:,} rejects"

    @cached_property
    def index(self) -> RowIndex | TrainingRejects:
        """Where its rows stand."""
        return RowIndex(self.directory, self.manifest)

    @cached_property
    def source(self) -> SourceConfig:
        """How its input was read, as far as its run tells: the encoding and `where` are in the input's digest."""
        with suppress(OSError, ValueError, KeyError, TypeError), open(self.directory / "metrics.jsonl") as file:
            params = next(each["params"] for each in map(json.loads, file) if each["op"] == "params")
            return SourceConfig(encoding=params["source.encoding"], where=params["source.where"])
        return SourceConfig()

    def from_line(self, file: str, line: int) -> Iterator[StoredRow]:
        """The rows that are this line of an input or were made from it, and its rejects."""
        names = ("id", "run", "source", "source_row", "parents", "extra")
        columns = [name for name in names if name in self.manifest.schema]
        for row in read_rows(self.directory, columns, verify=False, unfinished=True):
            if _is_line(row, file, line):
                yield StoredRow(row=row)
        yield from (reject for reject in self.rejects() if _is_line(reject.row, file, line))

    def rejects(self) -> Iterator[StoredRow]:
        """Its rejects, in order."""
        for reject in read_rejects(self.directory, verify=False, unfinished=True):
            yield StoredRow(row=json.loads(reject["row"]), reason=reject["reason"], detail=reject["detail"])


class TrainingRejects:
    """A training's directory: the rows that it could not use. The others are in its weights alone."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.name = directory, directory.name
        with suppress(OSError, ValueError, KeyError, TypeError):
            self.name = str(json.loads((directory / "train.json").read_text())["config"]["stage.name"])
        self.source = SourceConfig()
        self.index, self._rejects = self, list(_training_rejects(directory / TRAINING_FILE))
        self.reasons = Counter(str(reject.reason) for reject in self._rejects)
        self.counts = count_noun(len(self._rejects), "reject")

    def starting_with(self, prefix: str) -> Iterator[StoredRow]:
        """Rejects whose id starts so."""
        return (reject for reject in self._rejects if reject.id.startswith(prefix))

    def of(self, ids: Iterable[str], made_from: Collection[str] = ()) -> Iterator[StoredRow]:
        """Rejects with one of these ids, or made from a row with one of those."""
        wanted, sources = set(ids), set(made_from)
        return (r for r in self._rejects if r.id in wanted or not sources.isdisjoint(r.origins))

    def from_line(self, file: str, line: int) -> Iterator[StoredRow]:
        """The rejects that are this line of an input."""
        return (reject for reject in self._rejects if _is_line(reject.row, file, line))

    def rejects(self) -> Iterator[StoredRow]:
        """Its rejects, in order."""
        return iter(self._rejects)


def _training_rejects(file: Path) -> Iterator[StoredRow]:
    with suppress(ValueError, KeyError, TypeError):  # a line that is being written, or another program's file
        for line in file.read_text(encoding="utf-8").splitlines():
            reject = json.loads(line)
            row = reject["row"] if isinstance(reject["row"], dict) else {"text": reject["row"]}
            place = _PLACE.fullmatch(reject["id"])
            named = {"file": place[1], "line": int(place[2])} if place else {"id": reject["id"]}
            yield StoredRow(row={**named, **row}, reason=reject["reason"], detail=reject["detail"])


def _line_of(row: Mapping[str, Any]) -> str:
    return f"{row['file']}:{row['line']}" if {"file", "line"} <= row.keys() else "a line"


def _is_line(row: Mapping[str, Any], file: str, line: int) -> bool:
    place = (row.get("source", row.get("file")), row.get("source_row", row.get("line")))
    return place == (file, line) or f"{file}:{line}" in _seeds(row).values()


def _ancestors(origin: str, stages: Sequence[AnyStage]) -> set[str]:
    ancestors: set[str] = set()
    new = {origin}
    while new:
        parents = {p for stage in stages for record in stage.index.of(new) for p in record.origins}
        new = parents - ancestors - {origin}
        ancestors |= new
    return ancestors


AnyStage = Stage | TrainingRejects


def _stages(roots: Iterable[Path]) -> Iterator[AnyStage]:
    """Every stage below the roots, in the order of the method; then trainings."""
    stages, trainings = {}, {}
    for root in roots:
        for path in sorted({root / "manifest.json", *root.rglob("manifest.json")}):
            with suppress(LedgerError):  # another program's manifest
                manifest = read_manifest(path.parent)
                if "id" in manifest.schema:
                    stages[path.parent.resolve()] = manifest
        for path in sorted(root.rglob(TRAINING_FILE)):
            trainings[path.parent.resolve()] = path
    yield from (Stage(*found) for found in sorted(stages.items(), key=lambda s: (_place(s[1]), str(s[0]))))
    yield from map(TrainingRejects, sorted(trainings))


def _place(manifest: Manifest) -> int:
    name = str(manifest.config.get("stage.name", ""))
    return ORDER.index(name) if name in ORDER else len(ORDER)


def _format_rejects(directory: Path) -> Iterator[str]:
    """Each stage in and below a directory: its rejects by reason, and the first of each."""
    stages = list(_stages([directory]))
    if not stages:
        raise SqError(f"no stage's output is in or below {directory}")
    for stage in stages:
        yield f"{stage.name} ({_short_path(stage.directory)}): {stage.counts}"
        examples: dict[str | None, StoredRow] = {}
        for reject in stage.rejects():
            examples.setdefault(reject.reason, reject)
            if len(examples) == len(stage.reasons):
                break
        for reason, count in sorted(stage.reasons.items(), key=lambda item: -item[1]):
            reject = examples[reason]
            yield f"  {count:,} {reason}, such as {reject.id or _line_of(reject.row)}: {reject.detail}"[:LONG]
            row = reject.row
            shown = ((key, row[key]) for key in ("question", "response", "judge_reply", "text") if row.get(key))
            for column, text in shown:
                yield f"      {column}: {' '.join(str(text).split())[:LONG]}"


def _format_story(origin: str, story: list[tuple[AnyStage, StoredRow]]) -> Iterator[str]:
    """Each record with what is new in it: what an earlier one has of the same row is left out."""
    printed: dict[str, Any] = {}
    for stage, record in story:
        mark = "rejected" if record.reason else "kept"
        own = "this row" if record.id == origin else record.id
        yield f"{stage.name} ({_short_path(stage.directory)}): {own} {mark}" + (
            f", {record.reason}: {record.detail}" if record.reason else ""
        )
        for name, value in record.row.items():
            if name == "id" or value is None or value == [] or printed.get(name) == value:
                continue
            printed[name] = value
            if name == "extra" and (seeds := _seeds(record.row)):
                name, value = "made from", [f"{place} ({id})" for id, place in seeds.items()]
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            text = text if len(text) <= LONG else f"{text[:LONG]} … ({len(text)} characters)"
            yield "  " + f"{name}: {text}".replace("\n", "\n      ")
    descendants = len({r.id for _, r in story if origin in r.origins and r.id != origin})
    ends = [(stage, record) for stage, record in story if record.id == origin]
    if not ends:
        yield f"It is a row of an input, and in no stage here; {descendants} rows were made from it."
        return
    end, last = ends[-1]
    where = f"rejected by {end.name} ({last.reason})" if last.reason else f"kept by {end.name}"
    yield f"It ended {where}; {descendants} rows were made from it."


def _short_path(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
