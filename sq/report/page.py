"""The report: one HTML page that needs nothing but itself, the PNG files of its figures beside it, both in MLflow.

Each section is a function that looks at the run and returns nothing where there is nothing to show. A page can be made
at any time, of a run that is still going on too; it says then which stages are missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sq import __version__
from sq.core.count import count_noun
from sq.core.errors import SqError
from sq.core.files import plain_errors, write_files
from sq.core.tracking import Run, TrackingConfig, track
from sq.report import content, tables
from sq.report.ablation import Condition, ablation, conditions, record
from sq.report.artifacts import RunArtifacts, find_run, mapping
from sq.report.difficulty import difficulty
from sq.report.embedding import question_map
from sq.report.format import percent
from sq.report.funnel import funnel
from sq.report.html import Section, render
from sq.report.overlap import overlap
from sq.report.plots import Plots
from sq.report.safety import safety
from sq.report.samples import samples
from sq.report.sweeps import sweeps

log = logging.getLogger(__name__)
PAGE = "index.html"


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
    plots = Plots(directory=target)
    compared = conditions(artifacts)
    sections = list(_sections(artifacts, plots, compared, embed, guard))
    page = render(
        "page.html.j2", title=artifacts.title, sections=sections, unfinished=_unfinished(artifacts),
        highlights=_highlights(artifacts, compared), version=__version__, now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )  # fmt: skip
    write_files(target, {PAGE: page.encode("utf-8", "replace")})
    if artifacts.variants:
        write_files(directory, {"ablation.json": (json.dumps(record(compared), indent=1) + "\n").encode()})
    with _logged_to(artifacts, target, run) as tracked:
        for file in plots.files:
            tracked.artifact(file, "figures")
        tracked.artifact(target / PAGE, "report")
    counts = f"{count_noun(len(sections), 'section')}, {count_noun(len(plots.files), 'figure')}"
    log.info("report: %s -> %s", counts, target / PAGE)
    return target / PAGE


def _sections(
    artifacts: RunArtifacts, plots: Plots, compared: Sequence[Condition], embed: str | None, guard: str | None
) -> Iterator[Section]:
    """Every section that has something to show; one that fails says why, and the others stand."""
    parts: dict[str, Callable[[], Section | None]] = {
        "ablation": lambda: ablation(artifacts, plots, compared),
        "funnel": lambda: funnel(artifacts, plots),
        "difficulty": lambda: difficulty(artifacts, plots),
        "sweeps": lambda: sweeps(artifacts, plots),
        "benchmarks": lambda: tables.benchmarks(artifacts),
        "metrics": lambda: tables.stage_metrics(artifacts),
        "trainings": lambda: tables.trainings(artifacts),
        "topics": lambda: content.topics(artifacts, plots),
        "map": lambda: question_map(artifacts, plots, embed),
        "overlap": lambda: overlap(artifacts),
        "duplicates": lambda: content.duplicates(artifacts),
        "lengths": lambda: content.lengths(artifacts, plots),
        "safety": lambda: safety(artifacts, plots.directory, guard),
        "cost": lambda: tables.cost(artifacts),
        "rows": lambda: samples(artifacts),
        "reproduction": lambda: tables.reproduction(artifacts),
    }
    for name, make in parts.items():
        try:
            section = make()
        except SqError as error:
            log.warning("report: %s is not shown: %s", name, error)
            section = Section(id=name, title=name.capitalize(), summary=f"Not shown: {error}")
        if section is not None:
            yield section


def _unfinished(artifacts: RunArtifacts) -> str:
    """What is missing of a run that is going on."""
    waiting = [s.name for s in artifacts.stages if s.status not in ("done", "") or not s.directory.is_dir()]
    if not waiting:
        return ""
    few = ", ".join(waiting[:6]) + (f" and {len(waiting) - 6} more" if len(waiting) > 6 else "")
    done = len(artifacts.stages) - len(waiting)
    return f"This run is not finished: {done} of {count_noun(len(artifacts.stages), 'stage')} are done. Missing: {few}."


def _highlights(artifacts: RunArtifacts, compared: Sequence[Condition]) -> list[tuple[str, str, str]]:
    """The few numbers that come first: name, value, and what it is of."""
    highlights: list[tuple[str, str, str]] = []
    if finals := artifacts.finals:
        places = ", ".join(artifacts.relative(s.directory) for s in finals)
        highlights.append(("rows in the dataset", f"{artifacts.final_rows:,}", f"from {places}"))
    for key, name in (("solvable", "solvable questions"), ("student", "student's accuracy")):
        values = [(c.name, value) for c in compared if artifacts.variants and (value := c.metrics[key]) is not None]
        if values:
            (first, before), (last, after) = values[0], values[-1]
            about = f"{last}; {first} {percent(before.value)}" if len(values) > 1 else last
            highlights.append((name, percent(after.value), about))
    seconds = artifacts.recipe.get("seconds") or sum(s.seconds or 0.0 for s in artifacts.stages)
    if isinstance(seconds, int | float) and seconds:
        minutes = f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
        highlights.append(("time", minutes, count_noun(len(artifacts.stages), "stage")))
    return highlights


@contextmanager
def _logged_to(artifacts: RunArtifacts, target: Path, run: Run | None) -> Iterator[Run]:
    """The run that is given; else a child of the recipe's, where it is tracked at all."""
    tracking = mapping(artifacts.recipe.get("tracking"))
    uri = str(tracking.get("uri") or "")
    if run is not None or not uri:
        yield run or Run("untracked")
        return
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite") and not database.is_absolute() and not database.exists():
        log.warning("report: not tracked: there is no %s here; start it where the recipe was run", database)
        yield Run("untracked")
        return
    try:
        experiment = str(tracking.get("experiment") or "scalequest")
        config = TrackingConfig(uri=uri, experiment=experiment, parent=tracking.get("run_id") or None)
    except ValueError as error:
        log.warning("report: not tracked: %s", error)
        yield Run("untracked")
        return
    params = {"recipe": artifacts.recipe.get("recipe")}
    with track(config, stage="report", params=params, directory=target) as tracked:
        yield tracked
