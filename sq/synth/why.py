"""The story of one row: every stage that made it, judged it, was made from it or rejected it, in the order it happened.

Rows keep their id for life and name their parents, so the story is in the stages' directories alone. Only the parts
that speak of the row are read twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sq.core.errors import LedgerError, SqError
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.core.manifest import Manifest

ORDER = ("questions", "rewrite", "fail_rate", "filter", "answers", "select")
SHORTEST_ID = 6
LONG = 400


@dataclass(frozen=True, kw_only=True)
class LineageRecord:
    """One row or reject of one stage."""

    stage: str
    directory: Path
    row: dict[str, Any]
    reason: str | None = None
    detail: str = ""

    @property
    def id(self) -> str:
        """The row's id; a line that was never a row has none."""
        return str(self.row.get("id") or "")

    @property
    def origins(self) -> set[str]:
        """The ids of the rows it was made from."""
        named = self.row.get("question_id")
        return {*(self.row.get("parents") or ()), *([named] if named else ())}


def why(row: str, roots: Iterable[Path]) -> str:
    """The story of the row whose id starts with `row`, from the stages found below `roots`.

    Raises:
        SqError: where there is no stage, no such row, or more than one.
    """
    stages = list(_stages(roots))
    if not stages:
        raise SqError(f"no stage's output is below {', '.join(map(str, roots))}; say where: --in DIRECTORY")
    if len(row) < SHORTEST_ID:
        raise SqError(f"{row!r} is too short for an id: give at least {SHORTEST_ID} characters of it")
    matches = {record.id for record in _records(stages, lambda r: r.id.startswith(row))}
    if len(matches) != 1:
        listed = (
            f"{len(matches)} rows begin so: {', '.join(sorted(matches)[:5])}" if matches else "no row or reject has it"
        )
        raise SqError(f"{row}: {listed} ({len(stages)} stages searched)")
    origin = matches.pop()
    ancestors = _ancestors(origin, stages)
    story = list(_records(stages, lambda r: r.id in ancestors or r.id == origin or origin in r.origins))
    return "\n".join(_format_story(origin, story))


def _ancestors(origin: str, stages: list[tuple[Path, Manifest]]) -> set[str]:
    ancestors: set[str] = set()
    new = {origin}
    while new:
        sought = frozenset(new)
        parents = {p for record in _records(stages, lambda r: r.id in sought) for p in record.origins}  # noqa: B023
        new = parents - ancestors - {origin}
        ancestors |= new
    return ancestors


def _stages(roots: Iterable[Path]) -> Iterator[tuple[Path, Manifest]]:
    """Every stage below the roots, in the order of the method."""
    stages = {}
    for root in roots:
        for path in sorted({root / "manifest.json", *root.rglob("manifest.json")}):
            with suppress(LedgerError):  # another program's manifest
                manifest = read_manifest(path.parent)
                if "id" in manifest.schema:
                    stages[path.parent.resolve()] = manifest
    yield from sorted(stages.items(), key=lambda s: (_place(s[1]), str(s[0])))


def _place(manifest: Manifest) -> int:
    name = str(manifest.config.get("stage.name", ""))
    return ORDER.index(name) if name in ORDER else len(ORDER)


def _records(stages: list[tuple[Path, Manifest]], wanted: Callable[[LineageRecord], bool]) -> Iterator[LineageRecord]:
    for directory, manifest in stages:
        name = str(manifest.config.get("stage.name") or directory.name)
        keys = [column for column in ("id", "parents", "question_id") if column in manifest.schema]
        rows = read_rows(directory, columns=keys, verify=False, unfinished=True)
        if any(wanted(LineageRecord(stage=name, directory=directory, row=row)) for row in rows):
            for row in read_rows(directory, verify=False, unfinished=True):
                record = LineageRecord(stage=name, directory=directory, row=row)
                if wanted(record):
                    yield record
        for reject in read_rejects(directory, verify=False, unfinished=True):
            row = json.loads(reject["row"])
            record = LineageRecord(
                stage=name, directory=directory, row=row, reason=reject["reason"], detail=reject["detail"]
            )
            if wanted(record):
                yield record


def _format_story(origin: str, story: list[LineageRecord]) -> Iterator[str]:
    """Each record with what is new in it: what an earlier one has of the same row is left out."""
    printed: dict[str, Any] = {}
    for record in story:
        mark = "rejected" if record.reason else "kept"
        own = "this row" if record.id == origin else record.id
        yield f"{record.stage} ({_short_path(record.directory)}): {own} {mark}" + (
            f", {record.reason}: {record.detail}" if record.reason else ""
        )
        for name, value in record.row.items():
            if name == "id" or value is None or value == [] or printed.get(name) == value:
                continue
            printed[name] = value
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            text = text if len(text) <= LONG else f"{text[:LONG]} … ({len(text)} characters)"
            yield "  " + f"{name}: {text}".replace("\n", "\n      ")
    ends = [r for r in story if r.id == origin]
    last = ends[-1]
    where = f"rejected by {last.stage} ({last.reason})" if last.reason else f"kept by {last.stage}"
    descendants = len({r.id for r in story if origin in r.origins and r.id != origin})
    yield f"It ended {where}; {descendants} rows were made from it."


def _short_path(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
