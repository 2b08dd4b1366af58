"""`recipe.json`: what a recipe's directory holds, replaced as a whole after every change of a stage.

A stage is done when its record has the digest of the command and of all that it read, and its directory still holds
what it ended with; then it is passed over without a process being started.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from sq.core.errors import LedgerError, SqError
from sq.core.files import digest_of, write_files
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.core.manifest import NAME as MANIFEST
from sq.core.manifest import canonical
from sq.models.load import ModelConfig, fingerprint
from sq.recipe.expand import Stage

NAME = "recipe.json"
TRAINED = "train.json"
WAITING, RUNNING, DONE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"
_INCIDENTAL = re.compile(
    r"output_dir$|tracking($|\.)|trainer($|\.)|stage\.scores$"
    r"|(reward_)?engine\.(window|max_num_seqs|tensor_parallel|gpu_memory|cpu_cache_gib|eager|replicas)$"
)
_DECIDING = re.compile(r"trainer\.(precision|lora\.|export|attention)")


@dataclass(kw_only=True)
class StageRecord:
    """One stage in the file."""

    name: str
    script: str
    stage: str | None
    variant: str | None
    tags: dict[str, str]
    reads: list[str]
    overrides: list[str]
    output_dir: str
    log: str
    digest: str
    """Of the command: what decides the stage's rows or weights, beside what it reads."""
    status: str = WAITING
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    attempts: int = 0
    last: str = ""
    run_id: str | None = None
    read: dict[str, str] = field(default_factory=dict)
    """What it read: stage -> digest of what that had made."""
    made: str = ""
    seen: str = ""
    """Size and time of the files behind `made`, so that weights are not hashed again."""
    process: str = ""
    """The process that runs it, while one does."""


@dataclass(kw_only=True)
class RecipeRecord:
    """The whole file."""

    recipe: str
    title: str
    seed: int
    domain: str
    output_dir: str
    command: str
    sq: str
    tracking: dict[str, Any]
    hardware: dict[str, Any]
    started: str = field(default_factory=lambda: now())
    finished: str | None = None
    seconds: float = 0.0
    status: str = RUNNING
    engine: str = ""
    stages: list[StageRecord] = field(default_factory=list)

    def stage(self, name: str) -> StageRecord:
        """The record of a stage."""
        return next(stage for stage in self.stages if stage.name == name)

    def write(self) -> None:
        """Replace the file, atomically."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        write_files(Path(self.output_dir), {NAME: text.encode("utf-8", "replace") + b"\n"})


def read_record(directory: Path) -> RecipeRecord | None:
    """What an earlier run has left in the directory; none where there was none.

    Raises:
        LedgerError: where the file is there and cannot be read.
    """
    path = directory / NAME
    if not path.exists():
        return None
    try:
        doc = json.loads(path.read_text(encoding="utf-8"))
        stages = [StageRecord(**_known_fields(StageRecord, stage)) for stage in doc.pop("stages")]
        return RecipeRecord(**_known_fields(RecipeRecord, doc), stages=stages)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LedgerError(
            f"{path} cannot be read ({error}). Delete it: stages that are there already are looked at, not run again"
        ) from error


def command_digest(stage: Stage) -> str:
    """A digest of what decides a stage beside what it reads: no path of ours, no hardware, no tracking."""
    deciding = {k: v for k, v in stage.settings.items() if not _INCIDENTAL.match(k) or _DECIDING.match(k)}
    return digest_of(stage.script, canonical(deciding))


def output_digest(record: StageRecord) -> str | None:
    """A digest of what a stage's directory holds; none where the stage has not come to its end there.

    Keeps `record.seen`, so that a model is hashed once and afterwards only looked at.
    """
    directory = Path(record.output_dir)
    with suppress(OSError, SqError, ValueError, KeyError):
        if record.script == "train":
            return _trained(directory, record)
        ledgers = _ledgers(directory, record.script)
        if ledgers and all(ledger.finished for ledger in ledgers.values()):
            return digest_of(*(f"{place}={ledger.digest}" for place, ledger in ledgers.items()))
    return None


def run_of(record: StageRecord) -> str | None:
    """The id of the tracked run that a stage's directory names."""
    directory = Path(record.output_dir)
    with suppress(OSError, SqError, ValueError, KeyError):
        if record.script == "train":
            found = json.loads((directory / TRAINED).read_text()).get("run")
            return str(found) if found else None
        for place in _ledgers(directory, record.script):
            row = next(_runs(directory / place), None)
            if row:
                return row
    return None


def now() -> str:
    """This moment, with the zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _trained(directory: Path, record: StageRecord) -> str | None:
    if "figures" not in json.loads((directory / TRAINED).read_text()):
        return None
    model = directory / "model"
    files = [model / "config.json", *sorted(model.glob("*.safetensors")), directory / TRAINED]
    seen = digest_of(*(f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files))
    if not (record.made and record.seen == seen):
        record.seen = seen
        return fingerprint(ModelConfig(name=record.name, path=str(model)))
    return record.made


def _ledgers(directory: Path, script: str) -> Mapping[str, Any]:
    """The ledgers that a stage leaves, by their place in its directory: its own, or answers and scores."""
    places = [Path()] if script == "synthesize" else [p.parent.relative_to(directory) for p in _below(directory)]
    return {place.as_posix(): read_manifest(directory / place) for place in sorted(places)}


def _below(directory: Path) -> Iterator[Path]:
    return directory.glob(f"*/*/{MANIFEST}")


def _runs(ledger: Path) -> Iterator[str]:
    for row in read_rows(ledger, columns=["run"], verify=False):
        yield str(row["run"])
    for reject in read_rejects(ledger):
        if run := json.loads(reject["row"]).get("run"):
            yield str(run)


def _known_fields(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the class has; a later version may have written more."""
    names = {f.name for f in fields(cls)}
    return {key: value for key, value in values.items() if key in names}
