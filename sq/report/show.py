"""`sq show DIR`: the rows and rejects of stages, in the terminal or on a page, and a person's labels on them.

Labels are `labels.json` beside the rows of each stage: id -> keep or reject, and a note. Against them stands what the
stage did, so a hundred of them say how far its judge can be trusted.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sq.core.config import nearest
from sq.core.count import printable
from sq.core.errors import ConfigError, LedgerError, RowError
from sq.core.files import digest_of, write_files
from sq.core.intervals import wilson
from sq.core.ledger import read_manifest
from sq.core.manifest import NAME as MANIFEST
from sq.core.manifest import Manifest
from sq.core.quoting import sq_command
from sq.report.artifacts import StageArtifacts, find_run
from sq.report.render import cut, percent, render
from sq.report.samples import Event

LABELS = "labels.json"
TRAINED = "train.json"
WORDS = ("keep", "reject")
SORTS = {"difficulty": "difficulty", "reward": "reward", "reason": "reason", "tokens": "response_tokens"}
"""What rows may be sorted by, and the column."""


DECIDES = "filter"
"""The stage whose rejects are decisions on a row as it is, which a person's labels can measure."""
BOUNDS = 0.975
"""Of each of two shares, so that both hold at once in 95% of cases."""
RESTRICTED = "a choice by --search, --reason or --sort measures no stage"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a stage's decisions stand to a person's labels on some of its rows: counts of rejected by both, and so on.

    Kept rows and rejects are drawn and labelled apart, so each kind has its weight: as many as the stage has of it.
    """

    both: int
    stage_alone: int
    person_alone: int
    neither: int
    kept: int
    """Rows that the stage kept, labelled or not."""
    rejected: int

    def __str__(self) -> str:
        of_rejects, of_kept = self.both + self.stage_alone, self.person_alone + self.neither
        if not of_rejects + of_kept:
            return "no row is labelled yet"
        parts = []
        if self.kept and not of_kept:
            parts.append("no kept row is labelled yet, which agreement and recall need")
        if self.rejected and not of_rejects:
            parts.append("no reject is labelled yet, which every share needs")
        if of_rejects:
            parts.append(_share("precision of rejections", self.both / of_rejects, wilson(self.both, of_rejects)))
        if (of_rejects or not self.rejected) and (of_kept or not self.kept):
            bad, low = self.both / max(of_rejects, 1), wilson(self.both, of_rejects, BOUNDS)
            missed, high = self.person_alone / max(of_kept, 1), wilson(self.person_alone, of_kept, BOUNDS)
            bounds = self._agrees(low[0], high[1]), self._agrees(low[1], high[0])
            parts.insert(0, _share("agreement", self._agrees(bad, missed), bounds))
            if bad or missed:
                bounds = self._recall(low[0], high[1]), self._recall(low[1], high[0])
                parts.append(_share("recall of rejections", self._recall(bad, missed), bounds))
        return f"{of_rejects + of_kept:,} labelled: {'; '.join(parts)}"

    def _agrees(self, bad: float, missed: float) -> float:
        """From the share of its rejects, and of its kept rows, that the person rejects."""
        return (self.rejected * bad + self.kept * (1 - missed)) / max(1, self.rejected + self.kept)

    def _recall(self, bad: float, missed: float) -> float:
        rejected_bad = self.rejected * bad
        return rejected_bad / (rejected_bad + self.kept * missed) if rejected_bad else 0.0


def events_in(directory: Path, *, most: int, search: str = "", reason: str = "", sort: str = "") -> list[Event]:
    """Rows and rejects of the stages in and below a directory with all these words in them, of this outcome ("kept"
    too): at most so many of each stage and kind, the largest first, or drawn by their ids.

    Without an order, kept rows and rejects are mixed, by a hash of their ids: labels in this order are of both.

    Raises:
        ConfigError: where there is none; for an outcome or an order that none has.
    """
    stages = [stage for stage in _stages(directory) if stage.manifest and "id" in stage.manifest.schema]
    manifests = [stage.manifest for stage in stages if stage.manifest]
    if not any(manifest.items for manifest in manifests):
        trained = next(directory.rglob(TRAINED), None)
        why = f"; a training keeps none: {sq_command()} why {directory} has its rejects" if trained else " yet"
        raise ConfigError(f"no row is in or below {directory}{why}; give an output_dir with rows, or one above")
    outcomes = {name for stage, manifest in zip(stages, manifests, strict=True) for name in _outcomes(stage, manifest)}
    if reason and reason not in outcomes:
        raise ConfigError(f"--reason {reason} is none of {', '.join(sorted(outcomes))}{nearest(reason, outcomes)}")
    sought, events = search.lower().split(), list[Event]()
    for stage, manifest in zip(stages, manifests, strict=True):
        is_reject = reason in manifest.reasons
        for kind in (() if is_reject else _kept(stage), _rejected(stage) if is_reject or not reason else ()):
            matching = (e for e in kind if (not reason or e.outcome == reason) and _has(e, sought))
            events += heapq.nsmallest(most, matching, key=lambda event: (_order(event, sort), _hash(event, "report")))
    column = SORTS.get(sort, "reason")
    if column != "reason" and not any(event.row.get(column) is not None for event in _all(events, stages)):
        raise ConfigError(f"--sort {sort}: no row has the column {column!r}")
    places = {stage.directory: number for number, stage in enumerate(stages)}
    return sorted(events, key=lambda e: (_order(e, sort), places[e.stage.directory], _hash(e, "show")))


def read_labels(directory: Path) -> dict[str, dict[str, Any]]:
    """A person's labels in a directory and beside the rows below it: id -> label and note, and `chosen` where the row
    was not met in a sample."""
    places = [directory, *(path.parent for path in sorted(directory.rglob(MANIFEST)) if path.parent != directory)]
    return {key: label for place in places for key, label in _labels_of(place).items()}


def write_label(directories: Iterable[Path], key: str, label: str, note: str, *, chosen: bool = False) -> None:
    """Keep one label in each directory; an empty one without a note is taken away. One of a row that was chosen
    measures nothing."""
    if label not in ("", *WORDS):
        raise ConfigError(f"label={label!r} is not one of {', '.join(WORDS)}")
    for directory in directories:
        labels = _labels_of(directory)
        before = labels.pop(key, {})
        still_chosen = chosen and (not before.get("label") or bool(before.get("chosen")))
        if label or note:
            labels[key] = {"label": label, "note": note[:2000], **({"chosen": True} if still_chosen else {})}
        write_files(directory, {LABELS: json.dumps(labels, indent=1, sort_keys=True, ensure_ascii=False).encode()})


def places_of(directory: Path, events: Iterable[Event]) -> dict[str, list[Path]]:
    """Where each row's labels go: beside it in each stage, and to the file of the directory where that has it."""
    above, places = _labels_of(directory), dict[str, list[Path]]()
    for event in events:
        key = str(event.row.get("id"))
        of_row = places.setdefault(key, [directory] if key in above else [])
        of_row += [] if event.stage.directory in of_row else [event.stage.directory]
    return places


def _labels_of(directory: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads((directory / LABELS).read_text(encoding="utf-8"))
        return {str(key): dict(value) for key, value in content.items() if isinstance(value, Mapping)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{directory / LABELS} cannot be read: {error}") from error


def measured(events: Iterable[Event], labels: Mapping[str, Mapping[str, Any]]) -> str:
    """What each filter did with the rows that are labelled; a row has the same id in the stages before and after."""
    stages: dict[Path, list[Event]] = {}
    for event in events:
        if event.stage.manifest and event.stage.manifest.config.get("stage.name") == DECIDES:
            stages.setdefault(event.stage.directory, []).append(event)
    texts = [(group[0].stage.name, str(agreement(group, labels))) for group in stages.values()]
    if not texts:
        return "labels measure filters; none is here"
    return " | ".join(f"{name}: {text}" for name, text in texts) if len(texts) > 1 else texts[0][1]


def agreement(events: Sequence[Event], labels: Mapping[str, Mapping[str, Any]]) -> Agreement:
    """What one stage did with the rows that are labelled."""
    counts = {(bad, gone): 0 for bad in (True, False) for gone in (True, False)}
    for event in events:
        given = labels.get(str(event.row.get("id")), {})
        label = given.get("label")
        if label in WORDS and not given.get("chosen"):
            counts[label == "reject", bool(event.reason)] += 1
    manifest = events[0].stage.manifest
    assert manifest is not None
    return Agreement(
        both=counts[True, True], stage_alone=counts[False, True], person_alone=counts[True, False],
        neither=counts[False, False], kept=manifest.rows, rejected=manifest.rejects,
    )  # fmt: skip


def format_events(events: Iterable[Event]) -> Iterator[str]:
    """Rows as text without control characters: ids and reasons are of a file, too."""
    for event in events:
        outcome = f"rejected, {event.reason}" if event.reason else event.outcome
        numbers = [f"{name} {event.row[column]:.4g}" for name, column in SORTS.items()
                   if isinstance(event.row.get(column), int | float)]  # fmt: skip
        yield printable("  ".join([str(event.row.get("id") or "a line"), event.stage.name, outcome, *numbers]))
        for _, label, text in event.texts:
            yield f"  {label}: {printable(cut(text, 1500))}".replace("\n", "\n    ")
        if event.why:
            yield f"  Why: {printable(cut(event.why, 300))}"


def page(directory: Path, events: list[Event], *, nonce: str = "", token: str = "", restricted: bool = False) -> str:
    """The page: one file that fetches nothing; with a token its labels are sent to the server that gave it."""
    labels = read_labels(directory)
    shown = [{"event": e, "outcome": e.outcome, "label": labels.get(str(e.row.get("id")), {})} for e in events]
    return render(
        "show.html.j2", title=directory.resolve().name, rows=shown, nonce=nonce, token=token, sorts=SORTS,
        labels=labels, restricted=restricted, agreement=RESTRICTED if restricted else measured(events, labels),
        outcomes=sorted({e.outcome for e in events}), stages=list(dict.fromkeys(e.stage.name for e in events)),
    )  # fmt: skip


def _stages(directory: Path) -> list[StageArtifacts]:
    """The ledgers of rows: of stages, and of each benchmark of an evaluation its grades, before those its answers."""
    if (directory / MANIFEST).is_file():
        return [StageArtifacts(name=directory.resolve().name, kind="", directory=directory, script="synthesize")]
    graded: dict[Path, Path] = {}
    for path in sorted(directory.rglob(MANIFEST)):  # answers come before scores
        if path.parent.name in ("answers", "scores"):
            with suppress(LedgerError):
                if "benchmark" in read_manifest(path.parent).schema:
                    graded[path.parent.parent] = path.parent
    try:
        stages = [stage for stage in find_run(directory).stages if stage.script == "synthesize"]
    except RowError:
        if not graded:
            raise
        stages = []
    return [*stages, *(
        StageArtifacts(name=str(place.relative_to(directory)), kind="", directory=place, script="evaluate")
        for place in graded.values()
    )]  # fmt: skip


def _outcomes(stage: StageArtifacts, manifest: Manifest) -> set[str]:
    if "verdict" in manifest.schema:
        return {row["verdict"] for row in stage.rows("verdict")}
    return {*manifest.reasons, *(["kept"] if manifest.rows else ())}


def _kept(stage: StageArtifacts) -> Iterator[Event]:
    for row in stage.rows():
        detail = ""
        if row.get("verdict"):
            why = f"{row['reason'].removeprefix(row['profile'] + ': ')}; " if row.get("reason") else ""
            detail = f"{row['profile']}: {why}read {row['extracted']}, the reference is {row['reference']}"
        yield Event(stage=stage, row=row, detail=detail)


def _rejected(stage: StageArtifacts) -> Iterator[Event]:
    for row, reason, detail in stage.rejects():
        yield Event(stage=stage, row=row, reason=reason, detail=detail)


def _all(first: Iterable[Event], stages: Iterable[StageArtifacts]) -> Iterator[Event]:
    """Every row and reject, those first that are at hand."""
    yield from first
    for stage in stages:
        yield from _kept(stage)
        yield from _rejected(stage)


def _order(event: Event, sort: str) -> tuple[bool, float, str]:
    """The largest first, what has no number last; reasons by the alphabet."""
    value = event.row.get(SORTS[sort]) if sort and sort != "reason" else 0.0
    return value is None, -float(value or 0.0), event.reason if sort == "reason" else ""


def _hash(event: Event, use: str) -> str:
    return digest_of(use, str(event.row.get("id")))


def _has(event: Event, sought: list[str]) -> bool:
    if not sought:
        return True
    text = " ".join([*(text for _, _, text in event.texts), str(event.row.get("id")), event.reason]).lower()
    return all(word in text for word in sought)


def _share(name: str, value: float, bounds: tuple[float, float]) -> str:
    return f"{name} {percent(value, 0)} ({percent(bounds[0], 0)} to {percent(bounds[1], 0)})"
