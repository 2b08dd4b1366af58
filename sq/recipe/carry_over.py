"""The record of a recipe brought up to date: what an earlier run has left, and the stages as they are now."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from sq import __version__
from sq.core.provenance import hardware
from sq.core.secrets import redact_command
from sq.recipe.expand import Stage
from sq.recipe.load import Recipe
from sq.recipe.record import RecipeRecord, StageRecord, command_digest, read_record


def carry_over_record(recipe: Recipe, command: str) -> RecipeRecord:
    """The record to run with. Stages that the recipe no longer has are left out; what is known of the others stays."""
    earlier = read_record(recipe.output_dir)
    known = {stage.name: stage for stage in earlier.stages} if earlier else {}
    fresh = RecipeRecord(
        recipe=recipe.name,
        title=recipe.title,
        seed=recipe.seed,
        domain=recipe.domain,
        output_dir=str(recipe.output_dir),
        command=command,
        sq=__version__,
        tracking=earlier.tracking if earlier else {},
        hardware=_machine(),
        engine=recipe.engine,
        stages=[_stage(recipe, stage, known.get(stage.name)) for stage in recipe.stages],
    )
    if earlier is None:
        return fresh
    return replace(fresh, started=earlier.started, finished=earlier.finished, seconds=earlier.seconds,
                   status=earlier.status)  # fmt: skip


def _stage(recipe: Recipe, stage: Stage, known: StageRecord | None) -> StageRecord:
    now = StageRecord(
        name=stage.name,
        script=stage.script,
        stage=stage.kind,
        variant=stage.variant,
        tags=stage.tags,
        reads=list(stage.reads),
        overrides=redact_command(list(stage.overrides)),
        output_dir=str(stage.output_dir),
        log=str(recipe.output_dir / "logs" / f"{stage.name}.log"),
        digest=command_digest(stage),
    )
    if known is None:
        return now
    # Its settings as they were: whether they still are the same is for the run to say.
    return replace(
        now, digest=known.digest, overrides=known.overrides, status=known.status, seconds=known.seconds,
        cpu_seconds=known.cpu_seconds, attempts=known.attempts, last=known.last, run_id=known.run_id, read=known.read,
        made=known.made, seen=known.seen, process=known.process,
    )  # fmt: skip


def _machine() -> dict[str, Any]:
    found = hardware()
    gpus = [] if found["gpus"] == "none" else found["gpus"].split("; ")
    return {
        "name": gpus[0].partition(",")[0] if gpus else found["cpu"],
        "cores": int(found["cores"]),
        "memory_gib": found.get("memory_gib"),
        "gpus": gpus,
        "system": f"{found['system']}, Python {sys.version.split()[0]}",
    }
