"""Overlap with benchmarks (paper v2, Table 6): the share of a benchmark's problems that no 13-gram of the data is in.

Counted anew for the questions as sampled and for those that stayed, against every benchmark that the run was filtered
by or evaluated on, whether or not the filter looked for it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sq.core.intervals import Interval
from sq.core.ledger import read_rows
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.estimates import share
from sq.report.render import Section, section

if TYPE_CHECKING:
    from sq.synth.filters.overlap import BenchmarkNgrams

QUOTED = 5  # shared n-grams that are quoted


@dataclass(frozen=True, kw_only=True)
class CleanShare:
    """A benchmark against one stage's questions."""

    benchmark: str
    stage: StageArtifacts
    problems: int
    clean: Interval
    """The share of problems that have no 13-gram in common."""
    examples: Sequence[tuple[str, str]]
    """Problem and common words."""


def clean_shares(artifacts: RunArtifacts, stages: Sequence[StageArtifacts]) -> list[CleanShare]:
    """Every benchmark against the questions of these stages."""
    from sq.synth.filters.overlap import BenchmarkNgrams, OverlapFilter

    shares = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in _benchmarks(artifacts, Path(scratch)).items():
            grams = BenchmarkNgrams(OverlapFilter(benchmarks={name: path}))
            shares += [_clean(name, stage, grams) for stage in stages]
    return shares


def overlap(artifacts: RunArtifacts) -> Section | None:
    """The table: clean problems of each benchmark, against the questions before and after the filter."""
    filters = [s for s in artifacts.of("filter") if s.manifest and "figure" not in s.tags]
    before = artifacts.of("questions")[-1:] if not filters else []
    for stage in artifacts.chain(filters[-1:]):
        before += artifacts.inputs_of(stage)[:1] if stage.kind == "filter" and not before else []
    stages = list({stage.name: stage for stage in [*before, *(artifacts.finals or filters[-1:])]}.values())
    by_benchmark: dict[str, list[CleanShare]] = {}
    for one in clean_shares(artifacts, stages):
        by_benchmark.setdefault(one.benchmark, []).append(one)
    return section("overlap", benchmarks=by_benchmark, stages=stages, quoted=QUOTED) if by_benchmark else None


def _clean(name: str, stage: StageArtifacts, grams: BenchmarkNgrams) -> CleanShare:
    from sq.synth.filters.words import words_of

    hit: set[str] = set()
    examples: list[tuple[str, str]] = []
    for row in stage.rows("question"):
        shared, _ = grams.find(words_of(row["question"]))
        hit.update(item for _, item, _ in shared)
        examples += [(item, gram) for _, item, gram in shared[:1]]
    count = grams.items[name]
    clean = share(count - len(hit), count)
    return CleanShare(benchmark=name, stage=stage, problems=count, clean=clean, examples=examples)


def _benchmarks(artifacts: RunArtifacts, scratch: Path) -> dict[str, str]:
    """The benchmarks to compare with: the problems of every evaluation, and the filter's own files."""
    paths: dict[str, str] = {}
    for name, scores in (b for stage in artifacts.of("evaluate") for b in stage.benchmarks.items()):
        if name not in paths:  # as a file that the filter's own reader takes
            path = scratch / f"{len(paths)}.jsonl"
            path.write_text("".join(json.dumps({"id": i, "question": text}) + "\n" for i, text in problems(scores)))
            paths[name] = str(path)
    for stage in artifacts.of("filter"):
        config = stage.manifest.config if stage.manifest else {}
        prefix = "filters.overlap.benchmarks."
        named = {k.removeprefix(prefix): str(v) for k, v in config.items() if k.startswith(prefix)}
        paths |= {name: path for name, path in named.items() if name not in paths and Path(path).exists()}
    return paths


def problems(scores: Path) -> Iterator[tuple[str, str]]:
    """Each problem of an evaluation once: its id and its text."""
    items: set[str] = set()
    for row in read_rows(scores, ["item", "question"], unfinished=True):
        if row["item"] not in items:
            items.add(row["item"])
            yield row["item"], row["question"]
