"""`sq plan recipe=NAME`: what a recipe will take, before any of it is run."""

from __future__ import annotations

import argparse
from typing import Any

GROUPS = ("hardware", "assume", "sizes")


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser(
        "plan",
        help="forecast a recipe: rows, tokens, GPU hours, price",
        description="Forecast what a recipe takes, stage by stage, as in the paper's cost table. Nothing is run.",
        epilog="example: sq plan recipe=scalequest-math profile=cluster profile.nodes=2 assume.answer=600",
    )
    parser.add_argument(
        "overrides", nargs="+", metavar="key=value",
        help="recipe=NAME, its overrides as for sq run, and assume.KEY=, hardware.KEY=, sizes.rows.NAME=",
    )  # fmt: skip
    parser.add_argument(
        "--hardware",
        metavar="NAME",
        help="of conf/hardware: A100-40G, A100-80G, H100, H200, L4, CPU; default: what is here",
    )
    parser.add_argument("--gpus", metavar="N", type=int, help="devices that work side by side")
    parser.add_argument("--assumptions", metavar="NAME", help="a name of conf/assumptions/")
    parser.add_argument("--tiny", action="store_true", help="the recipe as sq run --tiny would run it")
    parser.add_argument("--sources", action="store_true", help="say where each number is from")
    parser.add_argument("--json", action="store_true", help="print plan.json in place of the table")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    import json

    from sq.cli.run import recipe_and_overrides
    from sq.core.errors import ConfigError
    from sq.recipe.load import load_recipe
    from sq.recipe.plan import as_json, plan
    from sq.recipe.plan_text import format_plan

    if parsed.gpus is not None and parsed.gpus < 1:
        raise ConfigError(f"--gpus {parsed.gpus} must be at least 1")
    name, words = recipe_and_overrides(parsed.overrides)
    changes, overrides = _split(words)
    recipe = load_recipe(name, overrides, tiny=parsed.tiny)
    forecast = plan(recipe, hardware=parsed.hardware, gpus=parsed.gpus, assumptions=parsed.assumptions, changes=changes)
    print(json.dumps(as_json(forecast), indent=1) if parsed.json else format_plan(forecast, sources=parsed.sources))


def _split(overrides: list[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Overrides of the forecast's own groups, and those of the recipe."""
    import yaml

    changes: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    rest = []
    for text in overrides:
        key, _, value = text.partition("=")
        group, _, name = key.partition(".")
        if group in GROUPS and name:
            changes[group][name.strip("'\"")] = yaml.safe_load(value)
        else:
            rest.append(text)
    return changes, rest
