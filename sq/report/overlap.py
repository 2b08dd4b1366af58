"""Overlap with benchmarks (paper v2, Table 6): the share of a benchmark's problems that no 13-gram of the data is in.

Counted anew for the questions as sampled and for those that stayed, against every benchmark that the run was filtered
by or evaluated on, whether or not the filter looked for it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sq.core.count import count_noun
from sq.core.errors import SqError
from sq.core.ledger import read_rows
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.html import Section, details, join, note, table
from sq.report.measure import percent, wilson_text

if TYPE_CHECKING:
    from sq.synth.filters.overlap import BenchmarkNgrams

QUOTED = 5
"""Shared n-grams that are quoted."""


@dataclass(frozen=True, kw_only=True)
class CleanShare:
    """A benchmark against one stage's questions; `problems` is none where its file is not here any more."""

    benchmark: str
    stage: StageArtifacts
    problems: int | None = None
    hit: int = 0
    examples: Sequence[tuple[str, str]] = ()
    """Problem and common words."""

    @property
    def told(self) -> str:
        """The share of clean problems with its interval."""
        if self.problems is None:
            return "not here any more"
        clean = self.problems - self.hit
        return f"{percent(clean / max(self.problems, 1), 2)} ({wilson_text(clean, self.problems)})"


def clean(artifacts: RunArtifacts, stages: Sequence[StageArtifacts]) -> list[CleanShare]:
    """Every benchmark against the questions of these stages."""
    from sq.synth.filters.overlap import BenchmarkNgrams, OverlapFilter

    told = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in benchmarks(artifacts, Path(scratch)).items():
            try:
                grams = BenchmarkNgrams(OverlapFilter(benchmarks={name: path}))
            except SqError:
                told += [CleanShare(benchmark=name, stage=stage) for stage in stages]
                continue
            for stage in stages:
                hit, examples = _hit(stage, grams)
                told.append(
                    CleanShare(benchmark=name, stage=stage, problems=grams.items[name], hit=len(hit), examples=examples)
                )
    return told


def section(artifacts: RunArtifacts) -> Section | None:
    """The table: clean problems of each benchmark, against the questions before and after the filter."""
    filters = [s for s in artifacts.of("filter") if s.manifest and "figure" not in s.tags]
    before = artifacts.made_from(filters[-1])[:1] if filters else artifacts.of("questions")[-1:]
    stages = list({stage.name: stage for stage in [*before, *(artifacts.finals or filters[-1:])]}.values())
    told = clean(artifacts, stages)
    if not told:
        return None
    by_name: dict[str, list[CleanShare]] = {}
    for one in told:
        by_name.setdefault(one.benchmark, []).append(one)
    rows = [
        [name, f"{ones[0].problems:,}" if ones[0].problems is not None else "–", *(one.told for one in ones)]
        for name, ones in by_name.items()
    ]
    head = ["benchmark", "problems", *(f"clean of {stage.name}" for stage in stages)]
    parts = [table(head, rows, caption="Share of problems without a common 13-gram, with its 95% interval")]
    quoted = [[one.benchmark, one.stage.name, *example] for one in told for example in one.examples]
    if quoted:
        head = ["benchmark", "stage", "problem", "common words"]
        made = table(head, quoted[:QUOTED], caption="Common 13-grams", words=4)
        parts.append(details(f"{len(quoted):,} common 13-grams, the first of them", made))
    parts.append(note("As in the filter, an n-gram that five or more of a benchmark's problems share is boilerplate."))
    asked = " or ".join(f"{count_noun(s.manifest.rows if s.manifest else 0, 'question')} of {s.name}" for s in stages)
    says = f"Problems of {count_noun(len(rows), 'benchmark')} that share no 13 words in a row with {asked}."
    return Section(id="overlap", title="Overlap with benchmarks", says=says, body=join(parts), paper="Table 6 of v2")


def benchmarks(artifacts: RunArtifacts, scratch: Path) -> dict[str, str]:
    """The benchmarks to look at: the filter's own files, and the problems of every evaluation."""
    told: dict[str, str] = {}
    for stage in artifacts.of("evaluate"):
        for name, scores in stage.benchmarks.items():
            if name not in told:
                told[name] = _written(scratch / f"{len(told)}.jsonl", problems(scores))
    for stage in artifacts.of("filter"):
        config = stage.manifest.config if stage.manifest else {}
        prefix = "filters.overlap.benchmarks."
        named = {k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)}
        told |= {name: str(path) for name, path in named.items() if name not in told and Path(str(path)).exists()}
    return told


def problems(scores: Path) -> Iterator[tuple[str, str]]:
    """Each problem of an evaluation once: its id and its text."""
    seen: set[str] = set()
    for row in read_rows(scores, ["item", "question"], unfinished=True):
        if row["item"] not in seen:
            seen.add(row["item"])
            yield row["item"], row["question"]


def _hit(stage: StageArtifacts, grams: BenchmarkNgrams) -> tuple[set[str], list[tuple[str, str]]]:
    from sq.synth.filters.words import words_of

    hit: set[str] = set()
    examples: list[tuple[str, str]] = []
    for row in stage.rows("question"):
        shared, _ = grams.find(words_of(row["question"]))
        hit.update(item for _, item, _ in shared)
        examples += [(item, gram) for _, item, gram in shared[:1]]
    return hit, examples


def _written(path: Path, found: Iterable[tuple[str, str]]) -> str:
    """Problems as a file that the filter's own reader takes."""
    path.write_text("".join(json.dumps({"id": item, "question": text}) + "\n" for item, text in found))
    return str(path)
