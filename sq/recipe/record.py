"""`recipe.json`: what a recipe's directory holds, replaced as a whole after every change of a stage.

A stage is done when its record has the digest of the command and of all that it read, and its directory still holds
what it ended with; then it is passed over without a process being started.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sq import __version__
from sq.core.errors import LedgerError, SqError
from sq.core.files import digest_of, read_json, write_files
from sq.core.ledger import read_manifest
from sq.core.manifest import NAME as MANIFEST
from sq.core.manifest import Manifest, canonical
from sq.core.provenance import hardware
from sq.core.secrets import redact_command
from sq.domains.oracle import OracleConfig
from sq.engine.hf import HFConfig
from sq.engine.openai import OpenAIConfig
from sq.engine.vllm import VLLMConfig
from sq.models.load import ModelConfig, fingerprint
from sq.recipe.load import Recipe
from sq.recipe.stages import Stage
from sq.synth.stage_metrics import read_stage_metrics

NAME = "recipe.json"
TRAINED = "train.json"
_OF_ENGINES = sorted(
    set[str]().union(*(kind.all_ignored_fields() for kind in (HFConfig, OpenAIConfig, OracleConfig, VLLMConfig)))
)
_IGNORED = re.compile(
    r"output_dir$|tracking($|\.)|trainer($|\.)|stage\.scores$|workers$|cluster($|\.)|part_size$|retry_engine_rejects$"
    rf"|filters\.\w+\.processes$|(.+\.)?(\w+_)?engine\.({'|'.join(_OF_ENGINES)})$"
)
"""Settings that say where or how a stage runs, not what comes out of it; but these of trainer and engine may decide:"""
_NOT_IGNORED = re.compile(r"trainer\.(precision|lora\.|export|attention)|.*engine\.step_reward$")


class Status(StrEnum):
    """Of a stage, and of the whole."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    PASSED_OVER = "passed over"
    """A round that was not wanted any more: the one before it showed no gain."""
    STOPPED = "stopped"


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
    status: str = Status.WAITING
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    busy_seconds: float = 0.0
    """What its models, or its training, took without their start, of all devices together; 0 where it is not known."""
    gpu_seconds: float | None = None
    """Of all GPUs that it had together; none on a machine without, and of a stage that an earlier version began."""
    attempts: int = 0
    last: str = ""
    """The line it ended with."""
    input_digests: dict[str, str] = field(default_factory=dict)
    """What it read: stage -> output digest of that stage."""
    output_digest: str = ""
    stat_signature: str = ""
    """Size and time of the files behind `output_digest`, so that weights are not hashed again."""
    process: str = ""
    """The process that runs it, while one does."""

    def forget(self) -> None:
        """Put it back to before its first attempt."""
        self.status, self.last, self.attempts = Status.WAITING, "", 0
        self.input_digests, self.output_digest, self.stat_signature = {}, "", ""
        self.seconds = self.cpu_seconds = self.busy_seconds = 0.0
        self.gpu_seconds = None


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
    status: str = Status.RUNNING
    engine: str = ""
    parallel: int = 1
    """Stages that run side by side."""
    chosen: list[str] = field(default_factory=list)
    """The stages that --until or --only chose in the latest run; none where it is to run all."""
    stages: list[StageRecord] = field(default_factory=list)

    @property
    def chosen_stages(self) -> list[StageRecord]:
        """The stages that the latest run is to bring to their end, without rounds that were not wanted any more."""
        return [
            stage for stage in self.stages
            if stage.status != Status.PASSED_OVER and (not self.chosen or stage.name in self.chosen)
        ]  # fmt: skip

    def stage(self, name: str) -> StageRecord:
        """The record of a stage."""
        return next(stage for stage in self.stages if stage.name == name)

    def input_digests(self, stage: Stage) -> dict[str, str]:
        """What a stage would read now: stage -> output digest."""
        return {name: self.stage(name).output_digest for name in stage.reads}

    def write(self) -> None:
        """Replace the file, atomically."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        write_files(Path(self.output_dir), {NAME: text.encode("utf-8", "replace") + b"\n"})


def read_record(directory: Path) -> RecipeRecord | None:
    """What an earlier run has left in the directory; none where there was none."""
    path = directory / NAME
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        stages = [StageRecord(**_fields_of(StageRecord, stage)) for stage in document.pop("stages")]
        return RecipeRecord(**_fields_of(RecipeRecord, document), stages=stages)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LedgerError(
            f"{path} cannot be read ({error}). Delete it: stages that are there already are looked at, not run again"
        ) from error


def updated_record(recipe: Recipe, command: str) -> RecipeRecord:
    """The record to run with: what an earlier run has left, for the stages that the recipe has now."""
    earlier = read_record(recipe.output_dir)
    before = {stage.name: stage for stage in earlier.stages} if earlier else {}
    fresh = RecipeRecord(
        recipe=recipe.name, title=recipe.title, seed=[*recipe.config.seeds, recipe.config.seed][0],
        domain=recipe.config.domain, output_dir=str(recipe.output_dir), command=command, sq=__version__,
        tracking=earlier.tracking if earlier else {}, hardware=_machine(), engine=recipe.engine,
        parallel=recipe.config.parallel,
        stages=[_stage_record(recipe, stage, before.get(stage.name)) for stage in recipe.stages],
    )  # fmt: skip
    if earlier is None:
        return fresh
    return replace(fresh, started=earlier.started, finished=earlier.finished, seconds=earlier.seconds,
                   status=earlier.status)  # fmt: skip


def decides(setting: str) -> bool:
    """Whether a setting may decide what comes out of a stage: not where it is, how fast, or when it gives up."""
    return not _IGNORED.match(setting) or bool(_NOT_IGNORED.match(setting))


def command_digest(stage: Stage) -> str:
    """A digest of what decides a stage beside what it reads: no path of ours, no hardware, no tracking."""
    return digest_of(stage.script, canonical({k: v for k, v in stage.settings.items() if decides(k)}))


def output_digest(record: StageRecord) -> str | None:
    """A digest of what a stage's directory holds; none where the stage has not come to its end there.

    Keeps `record.stat_signature`, so that a model is hashed once and afterwards only looked at.
    """
    directory = Path(record.output_dir)
    with suppress(OSError, SqError, ValueError, KeyError):
        if record.script == "train":
            return _digest_of_weights(directory, record)
        manifests = ledgers(directory, record.script)
        if manifests and all(ledger.finished for ledger in manifests.values()):
            return digest_of(*(f"{place}={ledger.digest}" for place, ledger in manifests.items()))
    return None


def busy_seconds(record: StageRecord) -> float:
    """What a finished stage wrote down of its work; of a training that was continued not all of it is known."""
    place = Path(record.output_dir)
    if record.script == "train":
        return float(read_json(place / TRAINED).get("seconds") or 0.0) if record.attempts == 1 else 0.0
    usage = read_stage_metrics(place).get("usage") or {}
    return float(sum(usage.get(f"usage/{kind}_seconds", 0.0) for kind in ("engine", "score")))


def ledgers(directory: Path, script: str) -> Mapping[str, Manifest]:
    """The ledgers that a stage leaves, by their place in its directory: its own, or answers and scores."""
    places = [directory] if script == "synthesize" else [p.parent for p in sorted(directory.glob(f"*/*/{MANIFEST}"))]
    return {place.relative_to(directory).as_posix(): read_manifest(place) for place in places}


def now() -> str:
    """This moment, with the zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _stage_record(recipe: Recipe, stage: Stage, before: StageRecord | None) -> StageRecord:
    """A stage's record. Its settings are as they were: whether they still are the same is for the run to say."""
    fresh = StageRecord(
        name=stage.name, script=stage.script, stage=stage.kind, variant=stage.variant, tags=stage.tags,
        reads=list(stage.reads), overrides=redact_command(list(stage.overrides)), output_dir=str(stage.output_dir),
        log=str(recipe.output_dir / "logs" / f"{stage.name}.log"), digest=command_digest(stage),
    )  # fmt: skip
    if before is None:
        return fresh
    return replace(
        before, script=fresh.script, stage=fresh.stage, variant=fresh.variant, tags=fresh.tags, reads=fresh.reads,
        output_dir=fresh.output_dir, log=fresh.log,
    )  # fmt: skip


def _machine() -> dict[str, Any]:
    facts = hardware()
    gpus = [] if facts["gpus"] == "none" else facts["gpus"].split("; ")
    return {
        "name": gpus[0].partition(",")[0] if gpus else facts["cpu"],
        "cores": int(facts["cores"]),
        "memory_gib": facts.get("memory_gib"),
        "gpus": gpus,
        "system": f"{facts['system']}, Python {sys.version.split()[0]}",
    }


def _digest_of_weights(directory: Path, record: StageRecord) -> str | None:
    if "figures" not in json.loads((directory / TRAINED).read_text()):
        return None
    model = directory / "model"
    files = [model / "config.json", *sorted(model.glob("*.safetensors")), directory / TRAINED]
    signature = digest_of(*(f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files))
    if record.output_digest and record.stat_signature == signature:
        return record.output_digest
    record.stat_signature = signature
    return fingerprint(ModelConfig(name=record.name, path=str(model)))


def _fields_of(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the class has, under the names it has for them; a later version may have written more."""
    names = {f.name for f in fields(cls)}
    return {key: value for key, value in values.items() if key in names}
