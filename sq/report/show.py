"""`sq show DIR`: the rows and rejects of stages, in the terminal or on a page, and a person's labels on them.

Labels are `labels.json` beside the rows: id -> keep or reject, and a note. Against them stands what the stage did, so a
hundred of them say how far its judge can be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sq.core.config import nearest
from sq.core.count import printable
from sq.core.errors import ConfigError
from sq.core.files import write_files
from sq.core.intervals import wilson
from sq.report.artifacts import StageArtifacts, draw, find_run
from sq.report.render import cut, percent, render
from sq.report.samples import Event

LABELS = "labels.json"
WORDS = ("keep", "reject")
SORTS = {"difficulty": "difficulty", "reward": "reward", "reason": "reason", "tokens": "response_tokens"}
"""What rows may be sorted by, and the column."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a stage's decisions stand to a person's labels on the same rows: counts of rejected by both, and so on."""

    both: int
    stage_alone: int
    person_alone: int
    neither: int

    def __str__(self) -> str:
        total = self.both + self.stage_alone + self.person_alone + self.neither
        if not total:
            return "no row is labelled yet"
        parts = [_share("agreement", self.both + self.neither, total)]
        if rejected := self.both + self.stage_alone:
            parts.append(_share("precision of rejections", self.both, rejected))
        if bad := self.both + self.person_alone:
            parts.append(_share("recall of rejections", self.both, bad))
        return f"{total:,} labelled: {'; '.join(parts)}"


def events_in(directory: Path, *, most: int) -> list[Event]:
    """Rows and rejects of the stages in and below a directory, at most so many of each stage, drawn by their ids.

    Raises:
        ConfigError: where there is none.
    """
    stages = [stage for stage in _stages(directory) if stage.manifest and "id" in stage.manifest.schema]
    if not any(stage.manifest and stage.manifest.items for stage in stages):
        raise ConfigError(f"no row is in or below {directory} yet; give a stage's output_dir, or one above")
    return [event for stage in stages for event in _drawn(stage, most)]


def read_labels(directory: Path) -> dict[str, dict[str, str]]:
    """A person's labels in a directory: id -> label and note."""
    try:
        content = json.loads((directory / LABELS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory / LABELS} cannot be read: {error}") from error
    return {str(key): dict(value) for key, value in content.items() if isinstance(value, Mapping)}


def write_label(directory: Path, key: str, label: str, note: str) -> None:
    """Keep one label; an empty one without a note is taken away."""
    if label not in ("", *WORDS):
        raise ConfigError(f"label={label!r} is not one of {', '.join(WORDS)}")
    labels = read_labels(directory)
    labels[key] = {"label": label, "note": note[:2000]}
    if not label and not note:
        del labels[key]
    write_files(directory, {LABELS: json.dumps(labels, indent=1, sort_keys=True, ensure_ascii=False).encode()})


def agreement(events: Iterable[Event], labels: Mapping[str, Mapping[str, str]]) -> Agreement:
    """What the stages did with the rows that are labelled."""
    counts = {(bad, gone): 0 for bad in (True, False) for gone in (True, False)}
    for event in events:
        label = labels.get(str(event.row.get("id")), {}).get("label")
        if label in WORDS:
            counts[label == "reject", bool(event.reason)] += 1
    return Agreement(
        both=counts[True, True], stage_alone=counts[False, True], person_alone=counts[True, False],
        neither=counts[False, False],
    )  # fmt: skip


def chosen(events: Iterable[Event], *, search: str = "", reason: str = "", sort: str = "") -> list[Event]:
    """The events with all these words in them, of this outcome ("kept" too), in this order, the largest first.

    Raises:
        ConfigError: for an outcome or an order that none of them has.
    """
    sought, events = search.lower().split(), list(events)
    outcomes = sorted({event.reason or "kept" for event in events})
    if reason and reason not in outcomes:
        raise ConfigError(f"--reason {reason} is none of {', '.join(outcomes)}{nearest(reason, outcomes)}")
    if sort in SORTS and sort != "reason" and all(event.row.get(SORTS[sort]) is None for event in events):
        raise ConfigError(f"--sort {sort}: no row has the column {SORTS[sort]!r}")
    found = [e for e in events if (not reason or (e.reason or "kept") == reason) and _has(e, sought)]
    if sort == "reason":
        return sorted(found, key=lambda event: event.reason)
    if sort:
        return sorted(found, key=lambda event: -float(event.row.get(SORTS[sort]) or float("-inf")))
    return found


def format_events(events: Iterable[Event]) -> Iterator[str]:
    """Rows as text without control characters: ids and reasons are of a file, too."""
    for event in events:
        outcome = f"rejected, {event.reason}" if event.reason else "kept"
        numbers = [f"{name} {event.row[column]:.4g}" for name, column in SORTS.items()
                   if isinstance(event.row.get(column), int | float)]  # fmt: skip
        yield printable("  ".join([str(event.row.get("id") or "a line"), event.stage.name, outcome, *numbers]))
        for _, label, text in event.texts:
            yield f"  {label}: {printable(cut(text, 1500))}".replace("\n", "\n    ")
        if event.reason and event.why:
            yield f"  Why: {printable(cut(event.why, 300))}"


def page(directory: Path, events: list[Event], *, nonce: str = "", token: str = "") -> str:
    """The page: one file that fetches nothing; with a token its labels are sent to the server that gave it."""
    labels = read_labels(directory)
    shown = [{"event": e, "outcome": e.reason or "kept", "label": labels.get(str(e.row.get("id")), {})} for e in events]
    return render(
        "show.html.j2", title=directory.resolve().name, rows=shown, nonce=nonce, token=token, sorts=SORTS,
        agreement=str(agreement(events, labels)),
        outcomes=sorted({e.reason or "kept" for e in events}), stages=list(dict.fromkeys(e.stage.name for e in events)),
    )  # fmt: skip


def _stages(directory: Path) -> list[StageArtifacts]:
    if (directory / "manifest.json").is_file():
        return [StageArtifacts(name=directory.resolve().name, kind="", directory=directory, script="synthesize")]
    return [stage for stage in find_run(directory).stages if stage.script == "synthesize"]


def _drawn(stage: StageArtifacts, most: int) -> Iterator[Event]:
    for row in draw(stage.rows(), most):
        yield Event(stage=stage, row=row)
    rejects = ({"id": row.get("id"), "row": row, "why": (reason, detail)} for row, reason, detail in stage.rejects())
    for drawn in draw(rejects, most):
        yield Event(stage=stage, row=drawn["row"], reason=drawn["why"][0], detail=drawn["why"][1])


def _has(event: Event, sought: list[str]) -> bool:
    text = " ".join([*(text for _, _, text in event.texts), str(event.row.get("id")), event.reason]).lower()
    return all(word in text for word in sought)


def _share(name: str, count: int, total: int) -> str:
    low, high = wilson(count, total)
    return f"{name} {percent(count / total, 0)} ({percent(low, 0)} to {percent(high, 0)})"
