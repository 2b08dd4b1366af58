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
from sq.recipe.expand import Stage
from sq.recipe.graph import dependents
from sq.recipe.load import Recipe
from sq.recipe.record import DONE, WAITING, RecipeRecord, StageRecord, command_digest, output_digest


def completed_stages(recipe: Recipe, record: RecipeRecord, wanted: Sequence[Stage], *, redo: bool) -> set[str]:
    """The stages that are done; the record is brought up to date with that, and with the recipe's settings.

    Raises:
        ConfigError: where one of `wanted` was made with other settings, unless it is to be made again.
    """
    changed = [stage for stage in recipe.stages if _is_other(stage, record.stage(stage.name))]
    if ours := [stage for stage in changed if stage in wanted]:
        _change(recipe, record, ours, redo)
    finished: set[str] = set()
    for stage in recipe.stages:
        each = record.stage(stage.name)
        if stage in changed and stage not in wanted:
            continue  # left as it is until it is asked for
        if set(stage.reads) <= finished and _is_done(stage, each, record):
            finished.add(stage.name)
            each.status = DONE
        elif each.status == DONE:
            each.status = WAITING
        each.digest, each.overrides = command_digest(stage), redact_command(list(stage.overrides))
    return finished


def remove(each: StageRecord) -> None:
    """Delete what a stage has made, and forget it."""
    shutil.rmtree(each.output_dir, ignore_errors=True)
    each.status, each.made, each.seen, each.read, each.last, each.run_id = WAITING, "", "", {}, "", None
    each.seconds, each.cpu_seconds, each.attempts = 0.0, 0.0, 0


def _is_other(stage: Stage, each: StageRecord) -> bool:
    return each.attempts > 0 and each.digest != command_digest(stage) and Path(each.output_dir).is_dir()


def _is_done(stage: Stage, each: StageRecord, record: RecipeRecord) -> bool:
    if not each.made or each.digest != command_digest(stage):
        return False
    return each.read == {name: record.stage(name).made for name in stage.reads} and output_digest(each) == each.made


def _change(recipe: Recipe, record: RecipeRecord, changed: Sequence[Stage], redo: bool) -> None:
    again = dependents({stage.name: stage.reads for stage in recipe.stages}, [stage.name for stage in changed])
    if not redo:
        told = [f"stage {s.name} was made with other settings: {_differs(s, record.stage(s.name))}" for s in changed]
        fix = f"Give another output_dir=, or --redo to make again {', '.join(sorted(again))}"
        raise ConfigError(*(f"{one}. {fix}" for one in told))
    for name in again:
        remove(record.stage(name))


def _differs(stage: Stage, each: StageRecord) -> str:
    there = dict(text.partition("=")[::2] for text in each.overrides)
    here = dict(text.partition("=")[::2] for text in redact_command(list(stage.overrides)))
    keys = [key for key in here | there if here.get(key) != there.get(key) and key != "output_dir"]
    told = [f"{key} ({there.get(key, 'not set')} there, {here.get(key, 'not set')} now)" for key in keys]
    return ", ".join(told) or "another stage in a setting's place"
