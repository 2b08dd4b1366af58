"""What the questions are about, how long they are, and which of them are there twice (paper, Figure 7).

Topics come from a `topic` column where a language model or a source has filled one, else from the domain itself: the
families that its oracle knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sq.report.artifacts import RunArtifacts
from sq.report.format import percent
from sq.report.html import Section, section
from sq.report.plots import Plots, Style, axes, horizontal_bars, percent_axis
from sq.report.question_sets import MOST, percentiles, question_sets, question_stages, repeated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOPICS = 12
"""Topics that have a bar of their own; the rest are one bar."""
PAIRS = 6
"""Duplicates that are quoted."""
QUOTED = ("id", "question", "duplicate_kind", "duplicate_similarity", "duplicate_of")


def topics(artifacts: RunArtifacts, plots: Plots) -> Section | None:
    """Shares of topics among seeds and generated questions."""
    counts, by = _topics(artifacts)
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
    figure = plots.add("topics", lambda style: _bars(bars, list(counts), style), alt, "Share of questions by topic")
    total = sum(own.total() for own in counts.values())
    return section("topics", figure=figure, bars=bars, names=list(counts), total=total, by=by)


def lengths(artifacts: RunArtifacts, plots: Plots) -> Section | None:
    """Lengths of questions in words, and of answers in tokens."""
    words = {name: [len(text.split()) for text in texts] for name, texts in question_sets(artifacts).items()}
    selections = [s for s in artifacts.of("select") if s.manifest and "figure" not in s.tags]
    tokens = {
        s.variant or s.name: [r["response_tokens"] for r in s.sample(MOST, "response_tokens")] for s in selections
    }
    tokens = {name: [v for v in values if v is not None] for name, values in list(tokens.items())[-4:]}
    figures, rows = [], []
    for of, unit, every in (("questions", "words", words), ("answers", "tokens", tokens)):
        if series := {name: values for name, values in every.items() if values}:
            label = f"{unit} in {of}"
            alt = f"Histogram of {label}: " + "; ".join(f"{k}, median {percentiles(v)[1]:,}" for k, v in series.items())
            caption = f"{label.capitalize()}, as shares; the last bin holds what is longer"
            figures.append(plots.add(f"lengths-{of}", lambda s, n=label, v=series: _lengths(n, v, s), alt, caption))  # type: ignore[misc]
            rows += [
                [name, of, unit, len(values), sum(values) / len(values), *percentiles(values), max(values)]
                for name, values in series.items()
            ]
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
    near: list[dict[str, Any]] = [row for gone in removed.values() for row in gone if row["duplicate_kind"] == "near"]
    near = sorted(
        (row for row in near if row["duplicate_similarity"] is not None),
        key=lambda r: (r["duplicate_similarity"], r["id"]),
    )[:PAIRS]
    stayed = _questions_of(artifacts, {str(row["duplicate_of"]) for row in near})
    return section("duplicates", rows=rows, kinds=kinds, near=near, stayed=stayed)


def _questions_of(artifacts: RunArtifacts, ids: set[str]) -> dict[str, str]:
    """The questions of these ids, kept or rejected by a filter."""
    questions: dict[str, str] = {}
    for stage in artifacts.of("filter") if ids else ():
        questions |= {row["id"]: row["question"] for row in stage.rows("id", "question") if row["id"] in ids}
        questions |= {row["id"]: row["question"] for row, _, _ in stage.rejects() if row.get("id") in ids}
    return questions


def _topics(artifacts: RunArtifacts) -> tuple[Mapping[str, Counter[str]], str]:
    """Topics of each set of questions, and who says so."""
    samples = {name: stage.sample(MOST, "topic") for name, stage in question_stages(artifacts).items()}
    tagged = {name: Counter(str(r["topic"]) for r in rows if r.get("topic")) for name, rows in samples.items()}
    if tagged := {name: counts for name, counts in tagged.items() if counts}:
        return tagged, "by their column topic"
    if (domain := artifacts.oracle) is None:
        return {}, ""
    labels = {name: map(domain.oracle_label, texts) for name, texts in question_sets(artifacts).items()}
    counts = {name: Counter(own.topic for own in each if own and own.topic) for name, each in labels.items()}
    by = "by the oracle's families of problems; a question outside its language has none"
    return {name: own for name, own in counts.items() if own}, by


def _bars(bars: Mapping[str, Sequence[float]], names: Sequence[str], style: Style) -> Figure:
    thick = 0.8 / len(names)
    figure, (ax,) = axes(style, height=0.8 + len(bars) * max(0.24, 0.13 * len(names)))
    for number, name in enumerate(names):
        places = [i + (number - (len(names) - 1) / 2) * thick for i in range(len(bars))]
        values = [of_sets[number] for of_sets in bars.values()]
        ax.barh(places, values, height=0.92 * thick, label=name, color=style.color(number))
    percent_axis(ax.xaxis)
    horizontal_bars(ax, list(bars), style)
    return figure


def _lengths(label: str, series: Mapping[str, Sequence[int]], style: Style) -> Figure:
    top = max(percentiles(values)[2] for values in series.values()) * 1.25 + 1
    figure, (ax,) = axes(style, height=2.8)
    for number, (name, values) in enumerate(series.items()):
        ax.hist([min(v, top) for v in values], bins=[i * top / 30 for i in range(31)], histtype="step", linewidth=1.8,
                weights=[1 / len(values)] * len(values), color=style.color(number), label=name,
                linestyle=("-", "--", "-.", ":")[number % 4])  # fmt: skip
    ax.set_xlabel(label)
    percent_axis(ax.yaxis)
    ax.legend()
    return figure
