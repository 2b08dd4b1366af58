"""What the questions are about and how long they are, and which of them are said twice (paper, Figure 7).

Topics come from a `topic` column where a language model or a source has filled one, else from the domain itself: the
families of the arithmetic language.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sq.core.count import count_noun
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.difficulty import stages_of_questions
from sq.report.html import Section, details, join, table
from sq.report.measure import MOST, medians, percent
from sq.report.seeds import seeds
from sq.report.style import Plots, Style, axes, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sq.domains.base import Domain

TOPICS = 12
"""Topics that are shown by name; the rest are one bar."""
PAIRS = 6
"""Duplicates that are quoted."""
Counts = Mapping[str, Counter[str]]


def topics(artifacts: RunArtifacts, figures: Plots) -> Section | None:
    """Shares of topics among seeds and generated questions."""
    told, by = _topics(artifacts)
    if not told:
        return None
    shares = {name: {t: n / counts.total() for t, n in counts.items()} for name, counts in told.items()}
    last = list(told)[-1]
    overall: Counter[str] = Counter()
    for own in shares.values():
        overall.update({t: v for t, v in own.items()})
    named = [t for t, _ in overall.most_common(TOPICS)]
    rest = [t for t in overall if t not in named]
    bars = {t: [own.get(t, 0.0) for own in shares.values()] for t in named}
    if rest:
        bars[f"{len(rest)} others"] = [sum(own.get(t, 0.0) for t in rest) for own in shares.values()]
    alt = f"Topics of {last}: " + ", ".join(f"{t} {percent(shares[last].get(t, 0.0))}" for t in named)
    figure = figures.add("topics", lambda style: _bars(bars, list(told), style), alt, "Share of questions by topic")
    rows = [[t, *(percent(v) for v in values)] for t, values in bars.items()]
    made = details("The figures", table(["topic", *told], rows, caption="Shares of topics"))
    total = sum(counts.total() for counts in told.values())
    says = f"What {count_noun(total, 'question')} are about, {by}."
    return Section(id="topics", title="Topics", says=says, body=join([figure, made]), paper="Figure 7")


def lengths(artifacts: RunArtifacts, figures: Plots) -> Section | None:
    """Lengths of questions in words, and of answers in tokens."""
    words = {"seeds": [len(text.split()) for text in seeds(artifacts)]} | {
        name: [len(row["question"].split()) for row in stage.sample(MOST, "question")]
        for name, stage in stages_of_questions(artifacts).items()
    }
    words = {name: values for name, values in words.items() if values}
    tokens = {
        stage.variant or stage.name: [r["response_tokens"] for r in stage.sample(MOST, "response_tokens")]
        for stage in artifacts.of("select")
        if stage.manifest and "figure" not in stage.tags
    }
    tokens = {name: [v for v in values if v is not None] for name, values in list(tokens.items())[-4:]}
    tokens = {name: values for name, values in tokens.items() if values}
    if not words and not tokens:
        return None
    parts, rows = [], []
    for key, label, series in (("questions", "words", words), ("answers", "tokens", tokens)):
        if series:
            parts.append(_lengths(f"lengths-{key}", f"{label} in {key}", series, figures))
            rows += [_length_row(name, key, label, values) for name, values in series.items()]
    head = ["of", "what", "in", "counted", "mean", "5%", "median", "95%", "longest"]
    made = table(head, rows, caption="Lengths", words=3)
    total = sum(len(v) for v in (*words.values(), *tokens.values()))
    says = f"{count_noun(total, 'text')}: how long questions and selected answers are."
    return Section(id="lengths", title="Lengths", says=says, body=join([*parts, made]))


def duplicates(artifacts: RunArtifacts) -> Section | None:
    """How many questions are said twice, and some that the filter took for near-copies."""
    stages = [s for s in artifacts.of("questions", "filter") if s.manifest and "figure" not in s.tags]
    if not stages:
        return None
    rows = []
    for stage in stages:
        texts = [" ".join(row["question"].casefold().split()) for row in stage.sample(MOST, "question")]
        if texts:
            repeated = len(texts) - len(set(texts))
            rows.append([stage.name, f"{len(texts):,}", f"{repeated:,}", percent(repeated / len(texts))])
    parts: list[Markup] = [
        table(["stage", "questions", "said before", "share"], rows, caption="Questions that another one repeats")
    ]
    removed = _removed(artifacts)
    if removed:
        kinds = [[name, f"{len(gone):,}", *_kinds(gone)] for name, gone in removed.items()]
        parts.append(
            table(["filter", "removed", "the same", "nearly the same"], kinds, caption="What the filter removed")
        )
        parts += _quoted(artifacts, removed)
    says = f"Repeated questions in {count_noun(len(rows), 'stage')}, letters' case and spaces aside" + (
        f"; {count_noun(sum(map(len, removed.values())), 'duplicate')} removed by the filter." if removed else "."
    )
    return Section(id="duplicates", title="Duplicates", says=says, body=join(parts))


def _topics(artifacts: RunArtifacts) -> tuple[Counts, str]:
    """Topics of each set of questions, and who says so."""
    stages = stages_of_questions(artifacts)
    tagged = {name: _tagged(stage.sample(MOST, "topic")) for name, stage in stages.items()}
    tagged = {name: counts for name, counts in tagged.items() if counts.total()}
    if tagged:
        return tagged, "by their column topic"
    domain = artifacts.domain
    if domain is None or domain.oracle_label("") is None:
        return {}, ""
    told = {"seeds": _families(domain, seeds(artifacts))} | {
        name: _families(domain, (row["question"] for row in stage.sample(MOST, "question")))
        for name, stage in stages.items()
    }
    by = "by the oracle's families of problems; a question outside its language has none"
    return {name: counts for name, counts in told.items() if counts.total()}, by


def _tagged(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    return Counter(str(row["topic"]) for row in rows if row.get("topic"))


def _families(domain: Domain, texts: Iterable[str]) -> Counter[str]:
    labels = map(domain.oracle_label, texts)
    return Counter(label.topic for label in labels if label is not None and label.topic)


def _bars(bars: Mapping[str, Sequence[float]], names: Sequence[str], style: Style) -> Figure:
    thick = 0.8 / len(names)
    figure, (ax,) = axes(style, height=0.8 + len(bars) * max(0.24, 0.13 * len(names)))
    for number, name in enumerate(names):
        places = [i + (number - (len(names) - 1) / 2) * thick for i in range(len(bars))]
        ax.barh(places, [values[number] for values in bars.values()], height=0.92 * thick, label=name,
                color=style.series[number % len(style.series)])  # fmt: skip
    ax.set_yticks(range(len(bars)), list(bars))
    ax.invert_yaxis()
    ax.grid(False)
    ax.grid(True, axis="x", color=style.grid, linewidth=0.6)
    percent_axis(ax.xaxis)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=min(3, len(names)))
    return figure


def _lengths(name: str, label: str, series: Mapping[str, Sequence[int]], figures: Plots) -> Markup:
    top = max(medians(values)[2] for values in series.values()) * 1.25 + 1

    def drawn(style: Style) -> Figure:
        figure, (ax,) = axes(style, height=2.8)
        for number, (key, values) in enumerate(series.items()):
            bins = [i * top / 30 for i in range(31)]
            ax.hist([min(v, top) for v in values], bins=bins, weights=[1 / len(values)] * len(values),
                    histtype="step", linewidth=1.8, color=style.series[number % len(style.series)], label=key,
                    linestyle=("-", "--", "-.", ":")[number % 4])  # fmt: skip
        ax.set_xlabel(label)
        percent_axis(ax.yaxis)
        ax.legend()
        return figure

    alt = f"Histogram of {label}: " + "; ".join(f"{k}, median {medians(v)[1]:,.0f}" for k, v in series.items())
    return figures.add(name, drawn, alt, f"{label.capitalize()}, as shares; the last bin holds what is longer")


def _length_row(name: str, key: str, label: str, values: Sequence[int]) -> list[str]:
    low, middle, high = medians(values)
    shown = [f"{len(values):,}", f"{sum(values) / len(values):,.1f}", f"{low:,.0f}", f"{middle:,.0f}", f"{high:,.0f}"]
    return [name, key, label, *shown, f"{max(values):,}"]


def _removed(artifacts: RunArtifacts) -> dict[str, list[dict[str, Any]]]:
    """Duplicates that filters removed: only what is told of them, for there may be many."""
    kept = ("id", "duplicate_kind", "duplicate_similarity", "duplicate_of", "question")
    told = {
        stage.name: [
            {key: row.get(key) for key in kept[: 5 if row.get("duplicate_kind") == "near" else 2]}
            for row, reason, _ in stage.rejects()
            if reason == "duplicate"
        ]
        for stage in artifacts.of("filter")
    }
    return {name: gone for name, gone in told.items() if gone}


def _kinds(gone: Sequence[Mapping[str, Any]]) -> list[str]:
    kinds = Counter(row.get("duplicate_kind") for row in gone)
    return [f"{kinds['exact']:,}", f"{kinds['near']:,}"]


def _quoted(artifacts: RunArtifacts, removed: Mapping[str, list[dict[str, Any]]]) -> list[Markup]:
    """The least alike of the near-copies, each beside the question that stayed."""
    near = [row for gone in removed.values() for row in gone if row.get("duplicate_kind") == "near"]
    near = sorted(near, key=lambda row: (row.get("duplicate_similarity") or 1.0, row["id"]))[:PAIRS]
    wanted = {row["duplicate_of"] for row in near}
    stayed: dict[str, str] = {}
    for stage in artifacts.of("filter"):
        stayed |= {row["id"]: row["question"] for row in _with_ids(stage, wanted)}
    rows = [
        [f"{row['duplicate_similarity']:.2f}", row["question"], stayed.get(row["duplicate_of"], "(in another file)")]
        for row in near
        if row.get("duplicate_similarity") is not None
    ]
    if not rows:
        return []
    head = ["similarity", "removed", "stayed"]
    return [table(head, rows, caption="The least alike of the near-copies", words=3)]


def _with_ids(stage: StageArtifacts, wanted: set[str]) -> Iterable[dict[str, Any]]:
    yield from (row for row in stage.rows("id", "question") if row["id"] in wanted)
    yield from (row for row, _, _ in stage.rejects() if row.get("id") in wanted)
