"""A recipe in MLflow: one parent run, found again when the command is run again, and a child for each stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sq.core.config import flatten
from sq.core.quoting import override
from sq.core.secrets import redact
from sq.core.tracking import TrackingConfig, track
from sq.recipe.load import Recipe
from sq.recipe.record import RecipeRecord
from sq.recipe.stages import Stage


@contextmanager
def parent_run(recipe: Recipe, record: RecipeRecord) -> Iterator[dict[str, str]]:
    """Track the block as the recipe's run; the environment by which the runs of its stages nest under it."""
    config, settings = recipe.config.tracking, recipe.config
    named = replace(
        config, tags={**config.tags, "sq.recipe": recipe.name}, run_name=config.run_name or recipe.name
    )  # fmt: skip
    params = {
        "recipe": recipe.name, "seed": settings.seed, "seeds": settings.seeds, "scale": settings.scale,
        "engine": recipe.engine, "domain": settings.domain, "counts": settings.counts, "let": settings.let,
        "stages": len(recipe.stages), "output_dir": str(recipe.output_dir),
    }  # fmt: skip
    with track(
        named, stage="recipe", params=flatten(params), directory=recipe.output_dir, identity={"recipe": recipe.name}
    ) as run:
        parent = {"uri": redact(config.uri), "experiment": config.experiment, "run_id": run.id}
        record.tracking = parent if config.enabled else {}
        record.write()
        yield {"SQ_PARENT_RUN": run.id} if config.enabled else {}


def tracking_overrides(recipe: Recipe, stage: Stage) -> list[str]:
    """What a stage's command says about tracking: where to, under which name, of which recipe."""
    config, default = recipe.config.tracking, TrackingConfig()
    if not config.enabled:
        return ["tracking=none"]
    keys = [key for key in ("uri", "experiment", "timeout") if getattr(config, key) != getattr(default, key)]
    tags = {**config.tags, **stage.tags, "recipe": recipe.name, **({"variant": stage.variant} if stage.variant else {})}
    return [
        *(override(f"tracking.{key}", getattr(config, key)) for key in keys),
        override("tracking.run_name", stage.name),
        override("tracking.tags", tags),
    ]
