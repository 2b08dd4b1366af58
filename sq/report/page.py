"""The report: one HTML page that needs nothing but itself, the PNG files of its figures beside it, both in MLflow.

Each section is a module that looks at the run and says nothing where there is nothing to show. A page can be made at
any time, of a run that is still going on too; it says then which stages are missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from markupsafe import Markup

from sq import __version__
from sq.core.count import count_noun
from sq.core.errors import SqError
from sq.core.files import plain_errors, write_files
from sq.core.run import Run
from sq.report import (
    ablation,
    benchmarks,
    content,
    cost,
    difficulty,
    embedding,
    environment,
    funnel,
    judge,
    overlap,
    safety,
    sample,
    studies,
    training,
)  # fmt: skip
from sq.report.artifacts import RunArtifacts, find_run
from sq.report.html import Section, render
from sq.report.measure import percent
from sq.report.style import Plots

log = logging.getLogger(__name__)
PAGE = "index.html"
Make = Callable[[], Section | None]


def write_report(
    directory: Path,
    *,
    output: Path | None = None,
    run: Run | None = None,
    embed: str | None = None,
    guard: str | None = None,
) -> Path:
    """Write the page of the run in `directory`, and log it with its figures.

    Args:
        directory: what `sq run` made, or any directory with stages below it.
        output: where the page goes; default: report/ in the directory.
        run: the MLflow run that it is logged to; default: a child of the recipe's own, where it has one.
        embed: a model to map questions with; default: the run's own base model.
        guard: a safety model (Llama-Guard) to classify a sample with; default: none.

    Raises:
        SqError: where no run is, or the page cannot be written.
    """
    found = find_run(directory)
    target = output or directory / "report"
    with plain_errors(target, "write it"):
        target.mkdir(parents=True, exist_ok=True)
    figures = Plots(directory=target)
    known = ablation.conditions(found)
    sections = list(_sections(found, figures, known, embed, guard))
    page = format_page(found, sections, known)
    write_files(target, {PAGE: page.encode("utf-8", "replace")})
    if found.variants:
        write_files(directory, {"ablation.json": (json.dumps(ablation.record(known), indent=1) + "\n").encode()})
    with _logged_to(found, run) as tracked:
        for file in figures.files:
            tracked.figure(file.stem, file)
        tracked.artifact(target / PAGE, "report")
    log.info(
        "report: %s, %s -> %s",
        count_noun(len(sections), "section"),
        count_noun(len(figures.files), "figure"),
        target / PAGE,
    )
    return target / PAGE


def format_page(found: RunArtifacts, sections: Sequence[Section], known: Sequence[ablation.Condition]) -> str:
    """The page as one text."""
    return render(
        "page.html.j2", title=found.title, sections=sections, unfinished=_unfinished(found),
        highlights=_highlights(found, known), version=__version__, now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )  # fmt: skip


def _sections(
    found: RunArtifacts, figures: Plots, known: Sequence[ablation.Condition], embed: str | None, guard: str | None
) -> Iterator[Section]:
    """Every section that has something to show; one that fails says why, and the others stand."""
    parts: list[tuple[str, Make]] = [
        ("What each step changed", partial(ablation.section, found, figures, known)),
        ("The funnel", partial(funnel.section, found, figures)),
        ("Difficulty", partial(difficulty.section, found, figures)),
        ("Side studies", partial(studies.section, found, figures)),
        ("Benchmarks", partial(benchmarks.section, found)),
        ("Judges", partial(judge.section, found)),
        ("Trainings", partial(training.section, found)),
        ("Topics", partial(content.topics, found, figures)),
        ("Map of questions", partial(embedding.section, found, figures, embed)),
        ("Overlap with benchmarks", partial(overlap.section, found)),
        ("Duplicates", partial(content.duplicates, found)),
        ("Lengths", partial(content.lengths, found, figures)),
        ("Safety", partial(safety.section, found, figures.directory, guard)),
        ("Cost", partial(cost.section, found)),
        ("Rows", partial(sample.section, found)),
        ("How to make it again", partial(environment.section, found)),
    ]
    for title, make in parts:
        try:
            made = make()
        except SqError as error:
            log.warning("report: %s is not shown: %s", title, error)
            made = Section(id=title.lower().replace(" ", "-"), title=title, says=f"Not shown: {error}", body=Markup())
        if made is not None:
            yield made


def _unfinished(found: RunArtifacts) -> str:
    """What is missing of a run that is going on."""
    waiting = [s.name for s in found.stages if s.status not in ("done", "") or not s.directory.is_dir()]
    if not waiting:
        return ""
    few = ", ".join(waiting[:6]) + (f" and {len(waiting) - 6} more" if len(waiting) > 6 else "")
    done = len(found.stages) - len(waiting)
    return f"This run is not finished: {done} of {count_noun(len(found.stages), 'stage')} are done. Missing: {few}."


def _highlights(found: RunArtifacts, conditions: Sequence[ablation.Condition]) -> list[tuple[str, str, str]]:
    """The few numbers that come first: name, value, and what it is of."""
    told: list[tuple[str, str, str]] = []
    if finals := found.finals:
        rows = sum(s.manifest.rows for s in finals if s.manifest)
        told.append(("rows in the dataset", f"{rows:,}", f"from {', '.join(found.shown(s.directory) for s in finals)}"))
    steps = conditions if found.variants else []
    for key, name in (("solvable", "solvable questions"), ("student", "student's accuracy")):
        known = [(c.name, f) for c in steps if (f := c.figures[key]) is not None]
        if known:
            last, first = known[-1], known[0]
            said = f"{last[0]}; {first[0]} {percent(first[1].value)}" if len(known) > 1 else last[0]
            told.append((name, percent(last[1].value), said))
    seconds = found.recipe.get("seconds") or sum(s.seconds or 0.0 for s in found.stages)
    if isinstance(seconds, int | float) and seconds:
        minutes = f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
        told.append(("time", minutes, count_noun(len(found.stages), "stage")))
    return told


@contextmanager
def _logged_to(found: RunArtifacts, run: Run | None) -> Iterator[Run]:
    """The run that is given; else a child of the recipe's, where it is tracked at all."""
    said = found.recipe.get("tracking")
    if run is not None or not isinstance(said, dict) or not said.get("uri"):
        yield run or Run("untracked")
        return
    from sq.core.mlflow_store import sqlite_path
    from sq.core.tracking import TrackingConfig, track

    database = sqlite_path(str(said["uri"]))
    if database is not None and not database.is_absolute() and not database.exists():
        log.warning("report: not tracked: there is no %s here; start it where the recipe was run", database)
        yield Run("untracked")
        return
    try:
        config = TrackingConfig(uri=str(said["uri"]), experiment=str(said.get("experiment") or "scalequest"))
    except ValueError as error:
        log.warning("report: not tracked: %s", error)
        yield Run("untracked")
        return
    parent = str(said.get("run_id") or "") or None
    with track(config, stage="report", params={"recipe": found.recipe.get("recipe")}, parent=parent) as tracked:
        yield tracked
