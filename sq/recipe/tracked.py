"""A recipe in MLflow: one parent run, found again when the command is run again, and a child for each stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sq.core.config import flatten
from sq.core.quoting import override
from sq.core.secrets import redact
from sq.core.tracking import TrackingConfig, track
from sq.recipe.expand import Stage
from sq.recipe.load import Recipe
from sq.recipe.record import RecipeRecord


@contextmanager
def parent_run(recipe: Recipe, record: RecipeRecord) -> Iterator[dict[str, str]]:
    """Track the block as the recipe's run; the environment by which the runs of its stages nest under it."""
    config = recipe.config.tracking
    named = dataclasses.replace(
        config, tags={**config.tags, "sq.recipe": recipe.name}, run_name=config.run_name or recipe.name
    )
    with track(
        named, stage="recipe", params=_params(recipe), directory=recipe.output_dir, identity={"recipe": recipe.name}
    ) as run:  # fmt: skip
        on = {"uri": redact(config.uri), "experiment": config.experiment, "run_id": run.id}
        record.tracking = on if config.enabled else {}
        record.write()
        yield {"SQ_PARENT_RUN": run.id} if config.enabled else {}


def tracking_overrides(recipe: Recipe, stage: Stage) -> list[str]:
    """What a stage's command says about tracking: where to, under which name, of which recipe."""
    config = recipe.config.tracking
    if not config.enabled:
        return ["tracking=none"]
    default = TrackingConfig()
    given: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("uri", "experiment", "timeout")
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
