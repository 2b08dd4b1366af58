"""What of a recipe is done: by the records of its stages, and by what their directories still hold.

A stage whose settings have changed is never mixed with what an earlier run has made of it: it is an error that names
each difference, or, with `redo`, it is made again with all that reads it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from sq.core.errors import ConfigError
from sq.core.secrets import redact_command
from sq.recipe.graph import dependents
from sq.recipe.load import Recipe
from sq.recipe.record import RecipeRecord, StageRecord, Status, command_digest, decides, ledgers, output_digest
from sq.recipe.stages import Stage


def completed_stages(recipe: Recipe, record: RecipeRecord, wanted: Sequence[Stage], *, redo: bool) -> set[str]:
    """The stages that are done; the record is brought up to date with that, and with the recipe's settings."""
    changed = [stage for stage in recipe.stages if _has_changed(stage, record.stage(stage.name))]
    if not redo:
        refuse_changed(recipe, record, wanted)
    for name in dependents(recipe.reading, [stage.name for stage in changed if stage in wanted]):
        remove(record.stage(name))
    finished: set[str] = set()
    for stage in recipe.stages:
        own = record.stage(stage.name)
        if stage in changed and stage not in wanted:
            continue  # left as it is until it is asked for
        if set(stage.reads) <= finished and _is_done(stage, own, record):
            finished.add(stage.name)
            own.status = Status.DONE
        elif own.status == Status.DONE:
            own.status = Status.WAITING
        own.digest, own.overrides = command_digest(stage), redact_command(list(stage.overrides))
    return finished


def refuse_changed(recipe: Recipe, record: RecipeRecord, wanted: Sequence[Stage]) -> None:
    """Raise a `ConfigError` that names each wanted stage that was made with other settings, and those settings."""
    changed = [stage for stage in wanted if _has_changed(stage, record.stage(stage.name))]
    again = dependents(recipe.reading, [stage.name for stage in changed])
    fix = f"Give another output_dir=, or --redo to make again {', '.join(sorted(again))}"
    if changed:
        raise ConfigError(
            *(f"stage {s.name} was made with other settings: {_differences(s, record.stage(s.name))}. {fix}"
              for s in changed)
        )  # fmt: skip


def remove(record: StageRecord) -> None:
    """Delete what a stage has made, and forget it."""
    shutil.rmtree(record.output_dir, ignore_errors=True)
    record.forget()


def _has_changed(stage: Stage, own: StageRecord) -> bool:
    return own.attempts > 0 and own.digest != command_digest(stage) and Path(own.output_dir).is_dir()


def _is_done(stage: Stage, own: StageRecord, record: RecipeRecord) -> bool:
    if not own.output_digest or own.digest != command_digest(stage) or _asks_again(stage, own):
        return False
    return own.input_digests == record.input_digests(stage) and output_digest(own) == own.output_digest


def _asks_again(stage: Stage, own: StageRecord) -> bool:
    """Whether it is to ask again for what an engine could not answer, and may have some of that."""
    if not stage.settings.get("retry_engine_rejects"):
        return False
    made = ledgers(Path(own.output_dir), stage.script)
    return stage.script == "evaluate" or any("engine" in ledger.reasons for ledger in made.values())


def _differences(stage: Stage, own: StageRecord) -> str:
    before = dict(text.partition("=")[::2] for text in own.overrides)
    after = dict(text.partition("=")[::2] for text in redact_command(list(stage.overrides)))
    keys = [key for key in after | before if after.get(key) != before.get(key) and decides(key)]
    texts = [f"{key} ({before.get(key, 'not set')} there, {after.get(key, 'not set')} now)" for key in keys]
    return ", ".join(texts) or "another stage in a setting's place"
