"""The funnel: what went into each stage, what came out, and why the rest did not; the counts are the manifests' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sq.core.manifest import Manifest
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.plots import SURFACE, TEXT, Plots, axes, color, horizontal_bars
from sq.report.render import Section, section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = {
    "questions": "sample", "rewrite": "question", "fail_rate": "problem", "filter": "question", "answers": "question",
    "select": "candidate", "reward": "candidate",
}  # fmt: skip
"""The stages that make rows, and what each counts."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage's counts, as its manifest has them; `entered` is in the units that it takes."""

    stage: StageArtifacts
    manifest: Manifest
    entered: int

    @property
    def reconciles(self) -> bool:
        """Whether what went in is what came out: rows and rejects (a question that is answered gives several rows)."""
        return self.stage.kind == "answers" or self.entered == self.manifest.rows + self.manifest.rejects


def steps(artifacts: RunArtifacts) -> list[Step]:
    """The counts of every stage of synthesis, in order."""
    counts = []
    for stage, manifest in ((stage, stage.manifest) for stage in artifacts.of(*UNITS) if stage.manifest):
        entered = manifest.items
        if stage.kind == "select":  # an item is a question with its candidates; every candidate is a row or a reject
            read = sum(s.row_count for s in artifacts.inputs_of(stage))
            limited = any(o.lstrip("+").startswith(("limit=", "source.")) for o in stage.overrides)
            entered = read if read and not limited else manifest.rows + manifest.rejects
        counts.append(Step(stage=stage, manifest=manifest, entered=entered))
    return counts


def to_dataset(artifacts: RunArtifacts, every: Sequence[Step]) -> list[Step]:
    """The stages on the way to the final dataset; the last ones where that is not known."""
    chain = artifacts.chain(artifacts.finals)
    way = [step for step in every if step.stage in chain]
    return way if len(way) > 1 else list(every)[-12:]


def funnel(artifacts: RunArtifacts, plots: Plots) -> Section | None:
    """The funnel with its counts and reasons."""
    every = steps(artifacts)
    if not every:
        return None
    way = to_dataset(artifacts, every)
    counts = [(s.stage.name, s.entered, s.manifest.rows, s.manifest.rejects) for s in way]
    alt = "; ".join(f"{name}: {n:,} in, {rows:,} rows out, {rejects:,} rejected" for name, n, rows, rejects in counts)
    figure = plots.add("funnel", lambda: _draw(way), alt, "Rows kept and rejected on the way to the dataset")
    return section("funnel", artifacts=artifacts, steps=every, units=UNITS, figure=figure)


def _draw(way: Sequence[Step]) -> Figure:
    figure, (ax,) = axes(height=0.9 + 0.42 * len(way))
    kept, rejected = [step.manifest.rows for step in way], [step.manifest.rejects for step in way]
    places = range(len(way))
    ax.barh(places, kept, color=color(0), label="rows", height=0.62)
    ax.barh(places, rejected, left=kept, color=color(4), label="rejects", height=0.62, hatch="////",
            edgecolor=SURFACE, linewidth=0)  # fmt: skip
    most = max(k + r for k, r in zip(kept, rejected, strict=True)) or 1
    for place, (k, r) in enumerate(zip(kept, rejected, strict=True)):
        ax.text(k + r + most * 0.015, place, f"{k:,} + {r:,}", va="center", color=TEXT, fontsize=9)
    ax.set_xlim(0, most * 1.28)
    ax.locator_params("x", nbins=4, integer=True)
    horizontal_bars(ax, [step.stage.name for step in way])
    return figure
