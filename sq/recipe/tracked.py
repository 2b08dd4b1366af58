"""A recipe in MLflow: one parent run, found again when the command is run again, and a child for each stage."""

from __future__ import annotations

import dataclasses
from typing import Any

from sq.core.config import flatten
from sq.core.quoting import override
from sq.core.secrets import redact
from sq.core.tracking import TrackingConfig, multirun_parent
from sq.recipe.expand import Stage
from sq.recipe.load import Recipe
from sq.recipe.record import RecipeRecord


def opened(recipe: Recipe, record: RecipeRecord) -> str | None:
    """The id of the recipe's run in MLflow, noted in its record; none where nothing is tracked."""
    config = recipe.config.tracking
    tags = {**config.tags, "sq.recipe": recipe.name}
    run = multirun_parent(
        dataclasses.replace(config, tags=tags, run_name=config.run_name or recipe.name), recipe.output_dir,
        name="recipe", params=_params(recipe),
    )  # fmt: skip
    record.tracking = {"uri": redact(config.uri), "experiment": config.experiment, "run_id": run} if run else {}
    return run


def tracking_overrides(recipe: Recipe, stage: Stage) -> list[str]:
    """What a stage's command says about tracking: where to, under which name, of which recipe."""
    config = recipe.config.tracking
    if not config.enabled:
        return ["tracking=none"]
    default = TrackingConfig()
    given: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("uri", "experiment", "spool", "timeout")
        if getattr(config, name) != getattr(default, name)
    }
    tags = {**config.tags, **stage.tags, "recipe": recipe.name, **({"variant": stage.variant} if stage.variant else {})}
    return [
        *(override(f"tracking.{key}", value) for key, value in given.items()),
        override("tracking.run_name", stage.name),
        override("tracking.tags", tags),
    ]


def _params(recipe: Recipe) -> dict[str, Any]:
    config = recipe.config
    return flatten(
        {
            "recipe": recipe.name, "seed": config.seed, "seeds": config.seeds, "scale": config.scale,
            "engine": recipe.engine, "domain": config.domain, "counts": config.counts, "let": config.let,
            "stages": len(recipe.stages), "output_dir": str(recipe.output_dir),
        }
    )  # fmt: skip
