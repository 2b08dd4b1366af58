"""Rounds that end by what was measured: one is passed over, with all that reads it, unless the one before it gained.

Which stages wait for a gain their `gain` says (`config.py`); what a gain is, `sq.synth.question_value`.
"""

from __future__ import annotations

from collections.abc import Collection

from sq.recipe.load import Recipe
from sq.recipe.record import RecipeRecord, Status
from sq.recipe.stages import Stage
from sq.synth.question_value import WANTED, gain, measured_questions


def pass_over(recipe: Recipe, record: RecipeRecord, waiting: list[Stage], finished: Collection[str]) -> dict[str, str]:
    """Take from `waiting`, which is in the stages' order, what an earlier round has ended, and record it so.

    Returns:
        The first stage of each round that is passed over, and why.
    """
    ended: dict[str, str] = {}
    for stage in list(waiting):
        own = record.stage(stage.name)
        read = next((name for name in stage.reads if record.stage(name).status == Status.PASSED_OVER), None)
        why = f"it reads {read}" if read else _without_gain(recipe, stage, finished)
        if why is None:
            own.status = Status.WAITING if own.status == Status.PASSED_OVER else own.status
            continue
        waiting.remove(stage)
        own.status, own.last = Status.PASSED_OVER, f"passed over: {why}"
        if read is None:
            ended[stage.name] = f"{own.last}; so is all that reads it"
    return ended


def _without_gain(recipe: Recipe, stage: Stage, finished: Collection[str]) -> str | None:
    """What the two rounds before it say, where they are measured and the later one shows no gain."""
    if stage.gain is None or not set(stage.gain) <= set(finished):
        return None
    wanted = float(stage.settings.get("stage.wanted", WANTED))
    before, after = (measured_questions(recipe.output_dir / name, wanted) for name in stage.gain)
    gained = gain(before, after)
    if gained.low > 0:
        return None
    interval = f"{gained.value:+.3f}, {gained.low:+.3f} to {gained.high:+.3f}"
    return f"the questions of {stage.gain[1]} show no gain in value on those of {stage.gain[0]} ({interval})"
