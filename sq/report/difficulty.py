"""How hard the questions are, seeds against generated (paper, Figure 3).

By the steps that the exact oracle counts where the domain has one, and by the fail rate that the run's own difficulty
scorer predicts, for seeds and generated questions alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from sq.core.count import count_noun
from sq.core.errors import SqError
from sq.core.intervals import mean_interval
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.html import Section, join, note, table
from sq.report.measure import MOST, by_oracle, spread, with_interval
from sq.report.seeds import seeds
from sq.report.style import Plots, Style, axes, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORED = 300
"""Seeds that the scorer is asked about: enough for a histogram, seconds on a CPU."""
LARGEST = 1_000_000_000
"""Bytes of a scorer that is still loaded on a machine without a GPU."""
BINS = 10
Series = Mapping[str, Sequence[float]]


def section(artifacts: RunArtifacts, figures: Plots) -> Section | None:
    """The histograms, and a table of their means."""
    parts: list[Markup] = []
    rows: list[list[str]] = []
    if steps := by_steps(artifacts):
        parts.append(_histogram("difficulty-steps", steps, "steps to the answer", figures, whole=True))
        rows += _rows(steps, "steps")
    if rates := by_scorer(artifacts):
        parts.append(_histogram("difficulty-scorer", rates, "predicted fail rate", figures, whole=False))
        rows += _rows(rates, "predicted fail rate")
    if not parts:
        return None
    total = sum(len(values) for series in (steps, rates) for values in series.values())
    body = join([
        *parts,
        table(["questions", "measured in", "counted", "mean (95% interval)"], rows, caption="Mean difficulty", words=2),
        note("Steps are counted for solvable questions only; an unsolvable one has none.") if steps else Markup(""),
    ])  # fmt: skip
    says = f"{count_noun(total, 'value')}: how hard seed questions are, and how hard those that the models wrote."
    return Section(id="difficulty", title="Difficulty: seeds and generated", says=says, body=body, paper="Figure 3")


def by_steps(artifacts: RunArtifacts) -> dict[str, Sequence[float]]:
    """The steps of seeds and of each stage of questions, by the oracle."""
    domain = artifacts.domain
    if domain is None or domain.oracle_label("") is None:
        return {}
    told = {"seeds": by_oracle(seeds(artifacts), domain).values} | {
        name: by_oracle((row["question"] for row in stage.sample(MOST, "question")), domain).values
        for name, stage in stages_of_questions(artifacts).items()
    }
    return {name: values for name, values in told.items() if values}


def by_scorer(artifacts: RunArtifacts) -> dict[str, Sequence[float]]:
    """The scorer's predictions for generated questions (as the filter recorded them) and for seeds."""
    filters = [s for s in artifacts.filters if s.manifest and "difficulty" in s.manifest.config.get("filters", [])]
    if not filters:
        return {}
    last = filters[-1]
    kept = [row["difficulty"] for row in last.sample(MOST, "difficulty") if row["difficulty"] is not None]
    scored = [row["difficulty"] for row in last.sample_with_rejects(MOST, "difficulty")]
    told = {"seeds": _scores_of_seeds(artifacts, last), "generated, as the filter scored them": scored}
    told |= {"kept": kept} if any(row.get("difficulty") is not None for row, _, _ in last.rejects()) else {}
    return {name: values for name, values in told.items() if values}


def stages_of_questions(artifacts: RunArtifacts, most: int = 4) -> dict[str, StageArtifacts]:
    """The stages whose questions are worth setting side by side: the ablation's, else all; at most `most`."""
    sampled = [s for s in artifacts.of("questions") if "figure" not in s.tags and s.tags.get("seed", "0") == "0"]
    chosen = sampled[: most - 1] + artifacts.filters[-1:]
    return {stage.variant or stage.name: stage for stage in chosen}


def _scores_of_seeds(artifacts: RunArtifacts, stage: StageArtifacts) -> Sequence[float]:
    """The same scorer's word on seeds; their measured fail rates are another measure, and not mixed in."""
    from pathlib import Path

    trained = [s.directory / "model" for s in artifacts.of("difficulty")]
    named = [o.partition("=")[2] for o in stage.overrides if "filters.difficulty.model.path=" in o]
    where = next((p for p in [*map(Path, named), *trained] if (p / "regressor.json").is_file()), None)
    if where is None or sum(f.stat().st_size for f in where.glob("*.safetensors")) > LARGEST:
        return []
    texts = seeds(artifacts)[:SCORED]
    if not texts:
        return []
    from sq.data.scoring import score_questions
    from sq.models.load import ModelConfig
    from sq.models.regressor import Regressor

    try:
        return score_questions(Regressor(ModelConfig(name="scorer", path=str(where))), texts)
    except SqError:  # a model of another version; the generated questions' scores are shown without
        return []


def _rows(series: Series, measure: str) -> list[list[str]]:
    return [
        [name, measure, f"{len(values):,}", with_interval(mean_interval(values), shares=False)]
        for name, values in series.items()
    ]


def _histogram(name: str, series: Series, label: str, figures: Plots, *, whole: bool) -> Markup:
    low, high, bins = 0.0, 1.0, BINS
    if whole:
        most = max(max(values) for values in series.values())
        low, high, bins = 0.5, most + 0.5, int(most)

    def drawn(style: Style) -> Figure:
        figure, plots = axes(style, height=1.15 * len(series) + 0.6, rows=len(series), sharex=True, sharey=True)
        width = (high - low) / bins
        for number, (ax, (key, values)) in enumerate(zip(plots, series.items(), strict=True)):
            heights = spread(values, bins, low, high)
            middles = [low + (i + 0.5) * width for i in range(bins)]
            ax.bar(middles, heights, width=0.86 * width, color=style.series[number % len(style.series)])
            ax.axvline(sum(values) / len(values), color=style.text, linewidth=1, linestyle=":")
            ax.set_title(f"{key} ({len(values):,})", loc="left")
            percent_axis(ax.yaxis)
        plots[-1].set_xlabel(label)
        return figure

    alt = f"Histograms of {label}: " + "; ".join(
        f"{key}, {len(values):,} questions, mean {sum(values) / len(values):.2f}" for key, values in series.items()
    )
    return figures.add(name, drawn, alt, f"Share of questions by {label}; dotted: the mean")
