"""How hard the questions are, seeds against generated (paper, Figure 3).

By the steps that the exact oracle counts where the domain has one, and by the fail rate that the run's own difficulty
scorer predicts, for seeds and generated questions alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sq.core.errors import SqError
from sq.core.intervals import mean_interval
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.html import Section, section
from sq.report.plots import Plots, histograms
from sq.report.quality import by_oracle
from sq.report.question_sets import MOST, question_sets, seeds

SCORED = 300
"""Seeds that the scorer is asked about: enough for a histogram, seconds on a CPU."""
LARGEST = 1_000_000_000
"""Bytes of a scorer that is still loaded on a machine without a GPU."""
BINS = 10
Series = Mapping[str, Sequence[float]]


def difficulty(artifacts: RunArtifacts, plots: Plots) -> Section | None:
    """The histograms, and a table of their means."""
    figures, rows = [], []
    for name, unit, series in (
        ("steps", "steps", by_steps(artifacts)),
        ("scorer", "predicted fail rate", by_scorer(artifacts)),
    ):
        if not series:
            continue
        most = max(max(values) for values in series.values())
        bins = (int(most), 0.5, most + 0.5) if name == "steps" else (BINS, 0.0, 1.0)
        label = "steps to the answer" if name == "steps" else unit
        alt = f"Histograms of {label}: " + "; ".join(
            f"{key}, {len(values):,} questions, mean {sum(values) / len(values):.2f}" for key, values in series.items()
        )
        caption = f"Share of questions by {label}; dotted: the mean"
        figures.append(
            plots.add(f"difficulty-{name}", lambda s, b=bins, v=series, n=label: histograms(b, v, n, s), alt, caption)  # type: ignore[misc]
        )
        rows += [(key, unit, mean_interval(values)) for key, values in series.items()]
    return section("difficulty", figures=figures, rows=rows) if figures else None


def by_steps(artifacts: RunArtifacts) -> Series:
    """The steps of seeds and of each stage of questions, by the oracle."""
    if artifacts.oracle is None:
        return {}
    steps = {name: by_oracle(texts, artifacts.oracle).values for name, texts in question_sets(artifacts).items()}
    return {name: values for name, values in steps.items() if values}


def by_scorer(artifacts: RunArtifacts) -> Series:
    """The scorer's predictions for generated questions (as the filter recorded them) and for seeds."""
    filters = [s for s in artifacts.filters if s.manifest and "difficulty" in s.manifest.config.get("filters", [])]
    if not filters:
        return {}
    last = filters[-1]
    scored = [row["difficulty"] for row in last.sample_with_rejects(MOST, "difficulty")]
    kept = [row["difficulty"] for row in last.sample(MOST, "difficulty") if row["difficulty"] is not None]
    all_kept = not any(row.get("difficulty") is not None for row, _, _ in last.rejects())
    series = {"seeds": _scores_of_seeds(artifacts, last), "generated, as the filter scored them": scored}
    series |= {} if all_kept else {"kept": kept}
    return {name: values for name, values in series.items() if values}


def _scores_of_seeds(artifacts: RunArtifacts, stage: StageArtifacts) -> Sequence[float]:
    """Seeds by the same scorer; their measured fail rates are another quantity, and not mixed in."""
    named = [o.partition("=")[2] for o in stage.overrides if "filters.difficulty.model.path=" in o]
    trained = [s.directory / "model" for s in artifacts.of("difficulty")]
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
    except SqError:  # a model of another version; the generated questions' scores are there without
        return []
