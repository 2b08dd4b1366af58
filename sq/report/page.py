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
from sq.report.diversity import diversity
from sq.report.embedding import question_map
from sq.report.funnel import funnel
from sq.report.overlap import overlap
from sq.report.plots import Plots
from sq.report.render import Section, render
from sq.report.safety import safety
from sq.report.samples import samples
from sq.report.sweeps import sweeps

log = logging.getLogger(__name__)
PAGE = "index.html"


def write_report(
    directory: Path, *, output: Path | None = None, embed: str | None = None, guard: str | None = None
) -> Path:
    """Write the page of a run into report/ in its directory (or `output`), and log it with its figures.

    `embed` is a model to map questions with (else the run's base model), `guard` a safety model for a sample of rows.

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
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    values = {"artifacts": artifacts, "conditions": compared, "sections": sections, "version": __version__, "now": now}
    page = render("page.html.j2", **values)
    write_files(target, {PAGE: page.encode("utf-8", "replace")})
    if artifacts.variants:
        write_files(directory, {"ablation.json": (json.dumps(record(compared), indent=1) + "\n").encode()})
    with _tracked(artifacts, target) as tracked:
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
        "difficulty": lambda: content.difficulty(artifacts, plots),
        "sweeps": lambda: sweeps(artifacts, plots),
        "benchmarks": lambda: tables.benchmarks(artifacts),
        "metrics": lambda: tables.stage_metrics(artifacts),
        "trainings": lambda: tables.trainings(artifacts),
        "topics": lambda: content.topics(artifacts, plots),
        "diversity": lambda: diversity(artifacts, embed),
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


@contextmanager
def _tracked(artifacts: RunArtifacts, target: Path) -> Iterator[Run]:
    """A child of the recipe's MLflow run, where it is tracked at all."""
    tracking, config = mapping(artifacts.recipe.get("tracking")), None
    uri, experiment = str(tracking.get("uri") or ""), str(tracking.get("experiment") or "scalequest")
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite") and not database.is_absolute() and not database.exists():
        log.warning("report: not tracked: there is no %s here; start it where the recipe was run", database)
    elif uri:
        try:
            config = TrackingConfig(uri=uri, experiment=experiment, parent=tracking.get("run_id") or None)
        except ValueError as error:
            log.warning("report: not tracked: %s", error)
    if config is None:
        yield Run("untracked")
        return
    with track(config, stage="report", params={"recipe": artifacts.recipe.get("recipe")}, directory=target) as tracked:
        yield tracked
