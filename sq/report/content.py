"""The questions themselves: how hard (paper, Figure 3), about what (Figure 7), how long, and which are there twice.

Difficulty is the steps that the exact oracle counts where the domain has one, and the fail rate that the run's own
scorer predicts, for seeds and generated questions alike. Topics come from a `topic` column where a language model or a
source has filled one, else from the oracle's families of problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sq.core.errors import SqError
from sq.core.intervals import mean_interval
from sq.report.artifacts import MOST, RunArtifacts, StageArtifacts
from sq.report.estimates import by_oracle
from sq.report.plots import Plots, axes, color, horizontal_bars, percent_axis
from sq.report.render import Section, percent, section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORED = 300  # seeds that the scorer is asked about: enough for a histogram, seconds on a CPU
LARGEST = 1_000_000_000  # bytes of a scorer that is still loaded on a machine without a GPU
BINS = 10
SEEDS = 2_000  # seeds that are looked at
TOPICS = 12  # topics that have a bar of their own; the rest are one bar
PAIRS = 6  # duplicates that are quoted
QUOTED = ("id", "question", "duplicate_kind", "duplicate_similarity", "duplicate_of")


def difficulty(artifacts: RunArtifacts, plots: Plots) -> Section | None:
    """The histograms, and a table of their means."""
    sets, oracle = question_sets(artifacts), artifacts.oracle
    steps = {name: by_oracle(texts, oracle).values for name, texts in sets.items()} if oracle else {}
    steps, rates = {name: values for name, values in steps.items() if values}, by_scorer(artifacts)
    figures = []
    if steps:
        most = max(max(values) for values in steps.values())
        figures.append(plots.histograms("difficulty-steps", "steps to the answer", steps, (int(most), 0.5, most + 0.5)))
    if rates:
        figures.append(plots.histograms("difficulty-scorer", "predicted fail rate", rates, (BINS, 0.0, 1.0)))
    rows = [
        (name, unit, mean_interval(values))
        for unit, series in (("steps", steps), ("predicted fail rate", rates))
        for name, values in series.items()
    ]
    return section("difficulty", figures=figures, rows=rows) if rows else None


def by_scorer(artifacts: RunArtifacts) -> Mapping[str, Sequence[float]]:
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
    texts = seeds(artifacts)[:SCORED]
    if where is None or not texts or sum(f.stat().st_size for f in where.glob("*.safetensors")) > LARGEST:
        return []
    from sq.data.scoring import score_questions
    from sq.models.load import ModelConfig
    from sq.models.regressor import Regressor

    try:
        return score_questions(Regressor(ModelConfig(name="scorer", path=str(where))), texts)
    except SqError:  # a model of another version; the generated questions' scores are there without
        return []


def topics(artifacts: RunArtifacts, plots: Plots) -> Section | None:
    """Shares of topics among seeds and generated questions."""
    counts, by = topic_counts(artifacts, question_stages(artifacts))
    if not counts:
        return None
    shares = {name: {t: n / own.total() for t, n in own.items()} for name, own in counts.items()}
    sums: Counter[str] = Counter()
    for own in shares.values():
        sums.update(own)
    named, rest = [t for t, _ in sums.most_common(TOPICS)], [t for t, _ in sums.most_common()[TOPICS:]]
    bars = {t: [own.get(t, 0.0) for own in shares.values()] for t in named}
    if rest:
        bars[f"{len(rest)} others"] = [sum(own.get(t, 0.0) for t in rest) for own in shares.values()]
    last = list(counts)[-1]
    alt = f"Topics of {last}: " + ", ".join(f"{t} {percent(shares[last].get(t, 0.0))}" for t in named)
    figure = plots.add("topics", lambda: _bars(bars, list(counts)), alt, "Share of questions by topic")
    total = sum(own.total() for own in counts.values())
    return section("topics", figure=figure, bars=bars, names=list(counts), total=total, by=by)


def lengths(artifacts: RunArtifacts, plots: Plots) -> Section | None:
    """Lengths of questions in words, and of answers in tokens."""
    words = {name: [len(text.split()) for text in texts] for name, texts in question_sets(artifacts).items()}
    selections = [s for s in artifacts.of("select") if s.manifest and "figure" not in s.tags][-4:]
    samples = {s.variant or s.name: s.sample(MOST, "response_tokens") for s in selections}
    tokens = {name: [n for row in rows if (n := row["response_tokens"]) is not None] for name, rows in samples.items()}
    figures, rows = [], []
    for of, unit, every in (("questions", "words", words), ("answers", "tokens", tokens)):
        if series := {name: values for name, values in every.items() if values}:
            top = max(percentiles(values)[2] for values in series.values()) * 1.25 + 1
            figures.append(plots.histograms(f"lengths-{of}", f"{unit} in {of}", series, (30, 0.0, top)))
            rows += [[name, of, unit, len(v), sum(v) / len(v), *percentiles(v), max(v)] for name, v in series.items()]
    return section("lengths", figures=figures, rows=rows) if rows else None


def duplicates(artifacts: RunArtifacts) -> Section | None:
    """How many questions are there twice, and some that the filter took for near-copies."""
    stages = [s for s in artifacts.of("questions", "filter") if s.manifest and "figure" not in s.tags]
    if not stages:
        return None
    texts = {stage.name: stage.questions(MOST) for stage in stages}
    rows = [[name, len(own), repeated(own)] for name, own in texts.items() if own]
    removed = {
        stage.name: [{k: row.get(k) for k in QUOTED} for row, reason, _ in stage.rejects() if reason == "duplicate"]
        for stage in artifacts.of("filter")
    }
    removed = {name: gone for name, gone in removed.items() if gone}
    kinds = {name: Counter(row["duplicate_kind"] for row in gone) for name, gone in removed.items()}
    near = [row for gone in removed.values() for row in gone if row["duplicate_kind"] == "near"]
    near = sorted(near, key=lambda row: (row["duplicate_similarity"] or 1.0, row["id"]))[:PAIRS]
    ids = {str(row["duplicate_of"]) for row in near}
    stayed: dict[str, str] = {}
    for stage in artifacts.of("filter") if near else ():
        kept = stage.index.of(ids) if stage.index else ()
        stayed |= {stored.id: stored.row["question"] for stored in kept}
    return section("duplicates", rows=rows, kinds=kinds, near=near, stayed=stayed)


def topic_counts(
    artifacts: RunArtifacts, stages: Mapping[str, StageArtifacts]
) -> tuple[Mapping[str, Counter[str]], str]:
    """Topics of seeds and of each of these stages' questions, and who says so."""
    of_seeds = [("seeds", stage) for stage in artifacts.of("annotate") if not artifacts.inputs_of(stage)][:1]
    samples = {name: stage.sample(MOST, "topic") for name, stage in [*of_seeds, *stages.items()]}
    tagged = {name: Counter(str(r["topic"]) for r in rows if r.get("topic")) for name, rows in samples.items()}
    if tagged := {name: counts for name, counts in tagged.items() if counts}:
        return tagged, "by their column topic"
    if (domain := artifacts.oracle) is None:
        return {}, ""
    labels = {name: map(domain.oracle_label, texts) for name, texts in question_sets(artifacts, stages).items()}
    counts = {name: Counter(own.topic for own in each if own and own.topic) for name, each in labels.items()}
    by = "by the oracle's families of problems; a question outside its language has none"
    return {name: own for name, own in counts.items() if own}, by


def _bars(bars: Mapping[str, Sequence[float]], names: Sequence[str]) -> Figure:
    thick = 0.8 / len(names)
    figure, (ax,) = axes(height=0.8 + len(bars) * max(0.24, 0.13 * len(names)))
    for number, name in enumerate(names):
        places = [i + (number - (len(names) - 1) / 2) * thick for i in range(len(bars))]
        values = [of_sets[number] for of_sets in bars.values()]
        ax.barh(places, values, height=0.92 * thick, label=name, color=color(number))
    percent_axis(ax.xaxis)
    horizontal_bars(ax, list(bars))
    return figure


def question_stages(artifacts: RunArtifacts, most: int = 4) -> dict[str, StageArtifacts]:
    """The stages whose questions are worth setting side by side: the ablation's, else all; at most `most`."""
    sampled = [s for s in artifacts.of("questions") if "figure" not in s.tags and s.tags.get("seed", "0") == "0"]
    return {stage.variant or stage.name: stage for stage in sampled[: most - 1] + artifacts.filters[-1:]}


def question_sets(artifacts: RunArtifacts, stages: Mapping[str, StageArtifacts] | None = None) -> dict[str, list[str]]:
    """The questions of seeds and of each of those stages."""
    chosen = question_stages(artifacts) if stages is None else stages
    sampled = {name: stage.questions(MOST) for name, stage in chosen.items()}
    return {name: texts for name, texts in {"seeds": seeds(artifacts), **sampled}.items() if texts}


def seeds(artifacts: RunArtifacts) -> list[str]:
    """Seed questions: what question fine-tuning read, else what fail rates are of; empty where they cannot be read."""
    for stage in artifacts.of("qft"):
        if stage.overrides and (read := _training_input(stage.overrides)):
            return read
    for stage in artifacts.of("fail_rate"):
        if read := stage.questions(SEEDS):
            return read
    if artifacts.oracle is None or not artifacts.of("questions"):
        return []  # a report does not go to the hub
    return [row["question"] for row in artifacts.oracle.seeds(SEEDS, 0, "train")]


@lru_cache(maxsize=8)
def _training_input(overrides: tuple[str, ...]) -> list[str]:
    """What train.py would read with these overrides."""
    from sq.core.compose import compose
    from sq.core.config import build
    from sq.data.sources import read_source
    from sq.train.config import TrainJob

    try:
        job = build(compose("train", overrides, "sq.train"), TrainJob)
        rows = read_source(job.data, ("question",), domain=job.domain.create())
        return [row["question"] for row in islice(rows, SEEDS)]
    except (SqError, OSError):
        return []  # the file is not here any more, or the command is of another version


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The 5th percentile, the median and the 95th."""
    ranked = sorted(values)
    low, middle, high = (ranked[min(len(ranked) - 1, int(place * len(ranked)))] for place in (0.05, 0.5, 0.95))
    return low, middle, high


def repeated(texts: Sequence[str]) -> int:
    """How many are the same as another one, letters' case and spaces aside."""
    return len(texts) - len({" ".join(text.casefold().split()) for text in texts})
