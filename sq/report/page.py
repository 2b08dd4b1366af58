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
from sq.core.tracking import Run, TrackingConfig, track
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
    artifacts = find_run(directory)
    target = output or directory / "report"
    with plain_errors(target, "write it"):
        target.mkdir(parents=True, exist_ok=True)
    figures = Plots(directory=target)
    known = ablation.conditions(artifacts)
    sections = list(_sections(artifacts, figures, known, embed, guard))
    page = format_page(artifacts, sections, known)
    write_files(target, {PAGE: page.encode("utf-8", "replace")})
    if artifacts.variants:
        write_files(directory, {"ablation.json": (json.dumps(ablation.record(known), indent=1) + "\n").encode()})
    with _logged_to(artifacts, target, run) as tracked:
        for file in figures.files:
            tracked.artifact(file, "figures")
        tracked.artifact(target / PAGE, "report")
    log.info(
        "report: %s, %s -> %s",
        count_noun(len(sections), "section"),
        count_noun(len(figures.files), "figure"),
        target / PAGE,
    )
    return target / PAGE


def format_page(artifacts: RunArtifacts, sections: Sequence[Section], known: Sequence[ablation.Condition]) -> str:
    """The page as one text."""
    return render(
        "page.html.j2", title=artifacts.title, sections=sections, unfinished=_unfinished(artifacts),
        highlights=_highlights(artifacts, known), version=__version__, now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )  # fmt: skip


def _sections(
    artifacts: RunArtifacts, figures: Plots, known: Sequence[ablation.Condition], embed: str | None, guard: str | None
) -> Iterator[Section]:
    """Every section that has something to show; one that fails says why, and the others stand."""
    parts: list[tuple[str, Make]] = [
        ("What each step changed", partial(ablation.section, artifacts, figures, known)),
        ("The funnel", partial(funnel.section, artifacts, figures)),
        ("Difficulty", partial(difficulty.section, artifacts, figures)),
        ("Side studies", partial(studies.section, artifacts, figures)),
        ("Benchmarks", partial(benchmarks.section, artifacts)),
        ("Judges", partial(judge.section, artifacts)),
        ("Trainings", partial(training.section, artifacts)),
        ("Topics", partial(content.topics, artifacts, figures)),
        ("Map of questions", partial(embedding.section, artifacts, figures, embed)),
        ("Overlap with benchmarks", partial(overlap.section, artifacts)),
        ("Duplicates", partial(content.duplicates, artifacts)),
        ("Lengths", partial(content.lengths, artifacts, figures)),
        ("Safety", partial(safety.section, artifacts, figures.directory, guard)),
        ("Cost", partial(cost.section, artifacts)),
        ("Rows", partial(sample.section, artifacts)),
        ("How to make it again", partial(environment.section, artifacts)),
    ]
    for title, make in parts:
        try:
            made = make()
        except SqError as error:
            log.warning("report: %s is not shown: %s", title, error)
            made = Section(id=title.lower().replace(" ", "-"), title=title, says=f"Not shown: {error}", body=Markup())
        if made is not None:
            yield made


def _unfinished(artifacts: RunArtifacts) -> str:
    """What is missing of a run that is going on."""
    waiting = [s.name for s in artifacts.stages if s.status not in ("done", "") or not s.directory.is_dir()]
    if not waiting:
        return ""
    few = ", ".join(waiting[:6]) + (f" and {len(waiting) - 6} more" if len(waiting) > 6 else "")
    done = len(artifacts.stages) - len(waiting)
    return f"This run is not finished: {done} of {count_noun(len(artifacts.stages), 'stage')} are done. Missing: {few}."


def _highlights(artifacts: RunArtifacts, conditions: Sequence[ablation.Condition]) -> list[tuple[str, str, str]]:
    """The few numbers that come first: name, value, and what it is of."""
    told: list[tuple[str, str, str]] = []
    if finals := artifacts.finals:
        rows = sum(s.manifest.rows for s in finals if s.manifest)
        told.append(
            ("rows in the dataset", f"{rows:,}", f"from {', '.join(artifacts.shown(s.directory) for s in finals)}")
        )
    steps = conditions if artifacts.variants else []
    for key, name in (("solvable", "solvable questions"), ("student", "student's accuracy")):
        known = [(c.name, f) for c in steps if (f := c.figures[key]) is not None]
        if known:
            last, first = known[-1], known[0]
            said = f"{last[0]}; {first[0]} {percent(first[1].value)}" if len(known) > 1 else last[0]
            told.append((name, percent(last[1].value), said))
    seconds = artifacts.recipe.get("seconds") or sum(s.seconds or 0.0 for s in artifacts.stages)
    if isinstance(seconds, int | float) and seconds:
        minutes = f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
        told.append(("time", minutes, count_noun(len(artifacts.stages), "stage")))
    return told


@contextmanager
def _logged_to(artifacts: RunArtifacts, target: Path, run: Run | None) -> Iterator[Run]:
    """The run that is given; else a child of the recipe's, where it is tracked at all."""
    said = artifacts.recipe.get("tracking")
    if run is not None or not isinstance(said, dict) or not said.get("uri"):
        yield run or Run("untracked")
        return
    database = Path(str(said["uri"]).removeprefix("sqlite:///"))
    if str(said["uri"]).startswith("sqlite") and not database.is_absolute() and not database.exists():
        log.warning("report: not tracked: there is no %s here; start it where the recipe was run", database)
        yield Run("untracked")
        return
    try:
        experiment = str(said.get("experiment") or "scalequest")
        config = TrackingConfig(uri=str(said["uri"]), experiment=experiment, parent=said.get("run_id") or None)
    except ValueError as error:
        log.warning("report: not tracked: %s", error)
        yield Run("untracked")
        return
    params = {"recipe": artifacts.recipe.get("recipe")}
    with track(config, stage="report", params=params, directory=target) as tracked:
        yield tracked
