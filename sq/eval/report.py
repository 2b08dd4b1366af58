"""What a finished evaluation says: metrics with intervals beside the paper's, and where the graders disagree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sq.core.count import columns, count_noun, percent
from sq.core.intervals import Interval
from sq.core.ledger import read_rows
from sq.core.metrics import EVALUATION, format_value, title
from sq.eval.metrics import Vote, compute_metrics, read_graded
from sq.eval.paper import paper_figure
from sq.eval.score import scores_dir

MetricsByProfile = dict[str, dict[str, Interval]]
"""By profile, then by name."""
MULTI_ANSWER = ("avg_at", "pass_at", "maj_at", "best_of")
"""How the names of metrics begin that need several answers to a problem."""
_BESIDE = ("cut_off", "unparsed", "tokens")
"""Metrics with a column of their own beside the accuracy."""
_UNDECIDED = ("timeout", "unverifiable", "failed")


@dataclass(frozen=True, kw_only=True)
class BenchmarkSummary:
    """One benchmark's metrics, and what its graders do not agree on."""

    name: str
    metrics: MetricsByProfile
    left_out: int = 0
    base: str | None = None
    """The paper's base model whose figure stands beside."""
    disagreements: list[dict[str, Any]] = field(default_factory=list)


def summarize(
    name: str, directory: Path, vote: Vote, *,
    ks: Sequence[int], rewards: Mapping[str, float] | None, left_out: int, base: str | None,
) -> BenchmarkSummary:  # fmt: skip
    """The metrics of a benchmark's scores, and where its graders disagree, which `disagreements.jsonl` lists too."""
    scores = scores_dir(directory)
    differing = list(disagreements(scores))
    write_jsonl(directory / "disagreements.jsonl", differing)
    metrics = {p: compute_metrics(g, vote, ks=ks, rewards=rewards) for p, g in read_graded(scores).items()}
    return BenchmarkSummary(name=name, metrics=metrics, left_out=left_out, base=base, disagreements=differing)


def format_report(summaries: Sequence[BenchmarkSummary]) -> str:
    """What is printed: the table, and what does not fit into it."""
    return "\n".join(filter(None, (format_table(summaries), format_details(summaries))))


def disagreements(scores: Path) -> Iterator[dict[str, Any]]:
    """Every answer on which the profiles differ about correctness: the pair, and each profile's grade and reason."""
    held: list[dict[str, Any]] = []
    for row in read_rows(scores):  # the rows of an answer stand together, one for each profile
        if held and row["parents"][0] != held[0]["parents"][0]:
            yield from _differing(held)
            held = []
        held.append(row)
    yield from _differing(held)


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a file, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    part.replace(path)


def format_table(summaries: Sequence[BenchmarkSummary]) -> str:
    """The table that is printed: a line for each benchmark and profile."""
    base = next((one.base for one in summaries), None)
    head = ["benchmark", "grader", "problems", "accuracy", "95% interval", *(title(m, EVALUATION) for m in _BESIDE)]
    head += [f"paper ({base})"] if base else []
    lines = [head]
    for one in summaries:
        for profile, measured in one.metrics.items():
            accuracy = measured["accuracy"]
            lines.append(
                [
                    one.name,
                    profile,
                    f"{accuracy.count:,}",
                    percent(accuracy.value),
                    f"{percent(accuracy.low)} to {percent(accuracy.high)}",
                    *(format_value(m, measured[m].value, EVALUATION) for m in _BESIDE),
                    *([_paper(base, one.name)] if base else []),
                ]  # fmt: skip
            )
    return "\n".join(columns(lines, left=2))


def format_details(summaries: Sequence[BenchmarkSummary]) -> str:
    """What does not fit in the table: pass@k and its kin, groups, other statuses, disagreement."""
    lines = []
    for one in summaries:
        for place, (profile, measured) in enumerate(one.metrics.items()):
            where = f"{one.name} ({profile})"
            if many := [f"{k} {_with_interval(v)}" for k, v in measured.items() if k.startswith(MULTI_ANSWER)]:
                lines.append(f"{where}: {', '.join(many)}")
            lines += [f"{where} by {group}: {text}" for group, text in _grouped(measured) if place == 0]
            if odd := [
                f"{k} {format_value(k, measured[k].value, EVALUATION)}" for k in _UNDECIDED if measured[k].value
            ]:
                lines.append(f"{where}: {', '.join(odd)}")
        if len(one.metrics) > 1:
            graded = one.metrics[next(iter(one.metrics))]["accuracy"].count
            under = ", ".join(f"{p} {percent(f['accuracy'].value)}" for p, f in one.metrics.items())
            differing = f"{count_noun(len(one.disagreements), 'answer')} to {count_noun(graded, 'problem')}"
            lines.append(f"{one.name}: the graders disagree on {differing} ({under})")
        if one.left_out:
            lines.append(
                f"{one.name}: left out: {count_noun(one.left_out, 'problem')} (see the rejects of its answers)"
            )
    return "\n".join(lines)


def flat_metrics(summary: BenchmarkSummary) -> dict[str, float]:
    """The metrics as MLflow has them: the first grader's plain, the others' with their name in front."""
    values = {}
    for place, (profile, measured) in enumerate(summary.metrics.items()):
        front = "" if place == 0 else f"{profile}/"
        for name, figure in measured.items():
            values[f"{front}{name}"] = figure.value
            if name.startswith(("accuracy", *MULTI_ANSWER)):
                values |= {f"{front}{name}_low": figure.low, f"{front}{name}_high": figure.high}
    main = summary.metrics[next(iter(summary.metrics))]["accuracy"]
    counts = {"problems": main.count, "left_out": summary.left_out, "disagreements": len(summary.disagreements)}
    return values | {name: float(n) for name, n in counts.items()}


def metric_rows(summaries: Sequence[BenchmarkSummary]) -> list[dict[str, Any]]:
    """Every metric as a row of one long table, for MLflow."""
    return [
        {
            "benchmark": one.name, "grader": profile, "figure": name, "value": f.value, "low": f.low, "high": f.high,
            "problems": f.count, "paper": paper_figure(one.base, one.name) if name == "accuracy" else None,
        }
        for one in summaries for profile, measured in one.metrics.items() for name, f in measured.items()
    ]  # fmt: skip


def _with_interval(figure: Interval) -> str:
    return f"{percent(figure.value)} ({100 * figure.low:.1f} to {percent(figure.high)})"


def _differing(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if len({row["correct"] for row in rows}) > 1:
        first = rows[0]
        graded = {r["profile"]: {k: r[k] for k in ("verdict", "extracted", "reason")} for r in rows}
        kept = {k: first[k] for k in ("benchmark", "item", "sample", "question", "reference", "prediction")}
        yield {"id": first["parents"][0], **kept, **{f"{p}_{k}": v for p, g in graded.items() for k, v in g.items()}}


def _grouped(measured: Mapping[str, Interval]) -> Iterator[tuple[str, str]]:
    for group in ("level", "topic", "source", "steps"):
        front = f"accuracy_{group}_"
        members = [
            f"{name.removeprefix(front)}: {percent(f.value)} of {f.count}"
            for name, f in measured.items()
            if name.startswith(front)
        ]
        if members:
            yield group, ", ".join(members)


def _paper(base: str | None, benchmark: str) -> str:
    value = paper_figure(base, benchmark)
    return "" if value is None else f"{value:.1f}%"
