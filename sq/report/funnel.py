"""The funnel: what went into each stage, what came out, and why the rest did not; the counts are the manifests' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from sq.core.count import count_noun
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.html import Section, join, note, table
from sq.report.measure import percent
from sq.report.style import Plots, Style, axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("questions", "rewrite", "fail_rate", "filter", "answers", "reward", "select")
UNITS = {
    "questions": "sample", "rewrite": "question", "fail_rate": "problem", "filter": "question", "answers": "question",
    "select": "candidate", "reward": "candidate",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage's counts: `entered` in the units it takes, `rows` and `reasons` as its manifest has them."""

    stage: StageArtifacts
    entered: int
    rows: int
    rejects: int
    reasons: dict[str, int]
    unit: str

    @property
    def reconciles(self) -> bool:
        """Whether what went in is what came out: rows and rejects (several rows a question where it is answered)."""
        return self.entered == self.rows + self.rejects if self.unit != "question answered" else True


def steps(artifacts: RunArtifacts) -> list[Step]:
    """The counts of every stage of synthesis, in order."""
    told = []
    for stage in artifacts.of(*KINDS):
        manifest = stage.manifest
        if manifest is None:
            continue
        unit, entered = UNITS.get(stage.kind, "row"), manifest.items
        if stage.kind == "select":  # an item is a question with its candidates; every candidate is a row or a reject
            read = sum(s.manifest.rows for s in artifacts.made_from(stage) if s.manifest)
            limited = any(o.lstrip("+").startswith(("limit=", "source.")) for o in stage.overrides)
            entered = read if read and not limited else manifest.rows + manifest.rejects
        elif stage.kind == "answers":
            unit = "question answered"
        told.append(
            Step(
                stage=stage,
                entered=entered,
                rows=manifest.rows,
                rejects=manifest.rejects,
                reasons=manifest.reasons,
                unit=unit,
            )
        )
    return told


def section(artifacts: RunArtifacts, figures: Plots) -> Section | None:
    """The funnel with its counts and reasons."""
    told = steps(artifacts)
    if not told:
        return None
    wrong = [step.stage.name for step in told if not step.reconciles]
    unfinished = [s.stage.name for s in told if s.stage.manifest and not s.stage.manifest.finished]
    says = (
        f"What went into each of {count_noun(len(told), 'stage')} of synthesis, what came out and why the rest did "
        "not, from their manifests. "
        + (f"The counts of {', '.join(wrong)} do not add up." if wrong else "In = out + rejects at every stage.")
        + (f" Not finished yet: {', '.join(unfinished)}." if unfinished else "")
    )
    chain = chain_of(artifacts, artifacts.finals, told)
    drawn = figures.add(
        "funnel", lambda style: _drawn(chain, style), _alt(chain), "Rows kept and rejected on the way to the dataset"
    )
    return Section(id="funnel", title="The funnel", says=says, body=join([drawn, _table(artifacts, told)]))


def chain_of(artifacts: RunArtifacts, finals: Sequence[StageArtifacts], told: Sequence[Step]) -> list[Step]:
    """The stages on the way to the final dataset; all of them where that is not known."""
    by_name = {step.stage.name: step for step in told}
    chain = [by_name[stage.name] for stage in artifacts.chain(finals) if stage.name in by_name]
    return chain if len(chain) > 1 else list(told)[-12:]


def _table(artifacts: RunArtifacts, told: Sequence[Step]) -> Markup:
    rows = []
    for step in told:
        reasons = ", ".join(
            f"{n:,} {reason} ({percent(n / max(step.entered, 1))})"
            for reason, n in sorted(step.reasons.items(), key=lambda item: -item[1])
        )
        out = f"{step.rows:,}"
        rows.append(
            [
                step.stage.name,
                artifacts.shown(step.stage.directory),
                step.unit.split()[0],
                reasons or "–",
                f"{step.entered:,}",
                out,
                f"{step.rejects:,}",
            ]
        )
    made = table(
        ["stage", "directory", "counted in", "rejected because", "in", "rows out", "rejects"],
        rows,
        caption="Counts of every stage",
        words=4,
    )
    remarks = []
    if any(step.unit == "question answered" for step in told):
        remarks.append("A question that is answered gives several rows, one for each candidate solution.")
    if any(step.stage.kind == "select" for step in told):
        remarks.append("Of a question's candidates one is selected; the others are rejects (not_chosen).")
    return join([made, note(" ".join(remarks))]) if remarks else made


def _alt(chain: Sequence[Step]) -> str:
    return "; ".join(f"{s.stage.name}: {s.entered:,} in, {s.rows:,} rows out, {s.rejects:,} rejected" for s in chain)


def _drawn(chain: Sequence[Step], style: Style) -> Figure:
    figure, (ax,) = axes(style, height=0.9 + 0.42 * len(chain))
    names = [step.stage.name for step in chain]
    kept, gone = [step.rows for step in chain], [step.rejects for step in chain]
    ax.barh(names, kept, color=style.series[0], label="rows", height=0.62)
    ax.barh(names, gone, left=kept, color=style.series[4], label="rejects", height=0.62, hatch="////",
            edgecolor=style.surface, linewidth=0)  # fmt: skip
    most = max([k + g for k, g in zip(kept, gone, strict=True)] or [1])
    for place, (k, g) in enumerate(zip(kept, gone, strict=True)):
        ax.text(k + g + most * 0.015, place, f"{k:,} + {g:,}", va="center", color=style.text, fontsize=9)
    ax.set_xlim(0, most * 1.28)
    ax.invert_yaxis()
    ax.grid(False)
    ax.grid(True, axis="x", color=style.grid, linewidth=0.6)
    ax.xaxis.set_major_locator(_whole_numbers())
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def _whole_numbers() -> object:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4, integer=True)
