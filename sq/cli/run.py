"""`sq run recipe=NAME`: a recipe from where it stands to its end, then the bill and the report."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sq.recipe.load import Recipe
    from sq.recipe.run import RecipeResult
    from sq.recipe.stages import Stage

ABOUT = """\
Run a recipe of conf/recipe/ (or a YAML of your own): every stage that is not done yet, each in its own process, in the
order that follows from what they read. Run the same command again to continue after a kill or a failure."""


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser(
        "run", help="run a recipe: the whole method with one command", description=ABOUT, add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value",
        help="recipe=NAME; then any key of the recipe: seed=1, scale=0.5, output_dir=DIR, parallel=2, profile=node, "
        "a count by its name (questions=500), a stage's setting as STAGE.KEY=value (qft.stage.lr=1e-3)",
    )  # fmt: skip
    parser.add_argument("-h", "--help", action=_Help, nargs=0, help="show this help and the recipes")
    parser.add_argument("--until", metavar="STAGE", help="only what this stage needs, and itself")
    parser.add_argument("--only", metavar="STAGE", help="this stage alone; what it reads must be done")
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the commands, run nothing")
    parser.add_argument("--tiny", action="store_true", help="the same stages with the tiny model, at counts for a try")
    parser.add_argument("--redo", action="store_true", help="make stages again whose settings or input have changed")
    parser.set_defaults(run=_run)


class _Help(argparse.Action):
    """The help, with the recipes there are: their titles are read only when somebody asks."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from sq.recipe.load import recipes

        parser.print_help()
        width = max(map(len, recipes()), default=0)
        print("\nrecipes:")
        for name, title in recipes().items():
            print(textwrap.fill(f"  {name:<{width}}  {title}", 110, subsequent_indent=" " * (width + 4)))
        parser.exit()


def _run(parsed: argparse.Namespace) -> None:
    from sq.recipe.load import load_recipe
    from sq.recipe.run import format_selection, run_recipe, selected

    name, overrides = recipe_and_overrides(parsed.overrides)
    recipe = load_recipe(name, overrides, tiny=parsed.tiny)
    stages = selected(recipe, parsed.until, parsed.only)
    if patterns := parsed.until or parsed.only:
        print(format_selection(recipe, stages, patterns), file=sys.stderr)
    if parsed.dry_run:
        return _dry_run(recipe, stages, redo=parsed.redo)
    _print_end(recipe, run_recipe(recipe, stages, command=_typed_command(), redo=parsed.redo))


def _typed_command() -> str:
    """This command as it can be typed again, without secrets."""
    from sq.core.quoting import sq_command
    from sq.core.secrets import redact_command

    return f"{sq_command()} {shlex.join(redact_command(sys.argv[1:]))}"


def recipe_and_overrides(words: list[str]) -> tuple[str, list[str]]:
    """The recipe's name among the overrides; the first word may be the bare name."""
    from sq.core.errors import ConfigError
    from sq.recipe.load import recipes

    if words and "=" not in words[0]:
        words = [f"recipe={words[0]}", *words[1:]]
    given = [word.partition("=")[2] for word in words if word.startswith("recipe=")]
    if len(given) != 1 or not given[0]:
        raise ConfigError(f"recipe= must be given, once: one of {', '.join(recipes())}")
    return given[0], [word for word in words if not word.startswith("recipe=")]


def _dry_run(recipe: Recipe, stages: Sequence[Stage], *, redo: bool) -> None:
    """The commands in their order, each as it can be copied; comments say what a stage is for."""
    from sq.recipe.completed_stages import refuse_changed
    from sq.recipe.jobs import check
    from sq.recipe.process import command
    from sq.recipe.record import updated_record

    check(stages, recipe.config.profile)
    if not redo:
        refuse_changed(recipe, updated_record(recipe, ""), stages)
    print(f"# {recipe.name}: {recipe.title}")
    for stage in stages:
        about = " ".join(filter(None, [stage.name, stage.variant and f"({stage.variant})"]))
        print(f"# {about}{' reads ' + ', '.join(stage.reads) if stage.reads else ''}\n{command(stage)}")


def _print_end(recipe: Recipe, result: RecipeResult) -> None:
    """What stands at the end: the ablation, the bill and the report of a complete run; else what is left."""
    from sq.core.count import clock, count_noun

    directory, record = recipe.output_dir, result.record
    if not result.complete:
        left = [each.name for each in record.stages if each.status != "done"]
        print(
            f"{recipe.name}: {count_noun(len(result.ran), 'stage')} run, {len(left)} left, next {left[0]}"
            f" -> {directory}"
        )
        return
    if not result.ran and (directory / "report" / "index.html").is_file():
        print(f"{recipe.name}: all {len(record.stages)} stages are done -> {directory / 'report' / 'index.html'}")
        return
    _print_results(directory)
    print(f"{recipe.name}: {count_noun(len(record.stages), 'stage')} in {clock(record.seconds)} -> {directory}")


def _print_results(directory: Path) -> None:
    """Ablation, bill, report. What one of them cannot do is said, and does not undo the run."""
    from sq.core.errors import SqError
    from sq.recipe.bill import bill
    from sq.report.ablation import format_ablation
    from sq.report.page import write_report

    parts: dict[str, Callable[[Path], str]] = {
        "ablation": format_ablation, "bill": bill, "report": lambda path: f"report: {write_report(path)}",
    }  # fmt: skip
    for name, format_part in parts.items():
        try:
            if text := format_part(directory):
                print(f"{text}\n")
        except SqError as error:
            print(f"{name}: {error}", file=sys.stderr)
