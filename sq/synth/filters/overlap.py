"""Removes questions that share an n-gram with a benchmark (paper v2, Table 6: common 13-grams with the test sets).

An n-gram that many items of a benchmark share is boilerplate ("express your answer as a common fraction in lowest
terms ...") and does not count. Told for each benchmark: the share of its items that nothing here has an n-gram of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sq.core.config import setting
from sq.core.errors import ConfigError
from sq.data.sources import SourceConfig, digest, read_source
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.filters.words import words_of

SHORTEST = 8
"""A benchmark item of fewer words than an n-gram is looked for as a whole, if it has at least so many."""


@dataclass(frozen=True, kw_only=True)
class OverlapFilter(FilterConfig):
    """Keeps questions that no benchmark has."""

    benchmarks: dict[str, str] = setting({}, help="name -> file of its questions, or a hub dataset")
    n: int = setting(13, ge=3, help="words of an n-gram")
    boilerplate: int = setting(5, ge=2, help="an n-gram in so many items of a benchmark, or more, does not count")

    @property
    def needs_all_rows(self) -> bool:
        """It removes row by row, but the clean share of a benchmark is one of all rows."""
        return True

    def fingerprint_fields(self, context: FilterContext) -> Mapping[str, Any]:
        """The benchmarks' contents."""
        if not self.benchmarks:
            raise ConfigError(
                "filters=[overlap] needs benchmarks to look for: filters.overlap.benchmarks={gsm8k: gsm8k_test.jsonl}"
            )
        return {f"benchmarks.{name}": digest(_source(path)) for name, path in self.benchmarks.items()}

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Add overlap columns; remove what shares an n-gram."""
        grams = BenchmarkNgrams(self)
        hit: dict[str, set[str]] = {name: set() for name in self.benchmarks}
        for case in cases:
            if case.reason is None:
                shared_items, share = grams.find(words_of(case.question))
                case.row["overlap"] = share
                if shared_items:
                    for benchmark, item, _ in shared_items:
                        hit[benchmark].add(item)
                    benchmark, item, gram = shared_items[0]
                    case.row |= {"overlap_benchmark": benchmark, "overlap_item": item, "overlap_ngram": gram}
                    case.remove("overlap", f"{benchmark} {item}: {gram}")
            yield case
        for name, items in hit.items():
            context.metrics[f"overlap/{name}/clean"] = 1 - len(items) / max(grams.items[name], 1)


@dataclass(slots=True)
class BenchmarkNgrams:
    """The n-grams of all benchmarks, by hash."""

    config: OverlapFilter
    items: Counter[str] = field(default_factory=Counter)
    _places: dict[int, tuple[str, str]] = field(default_factory=dict)
    _lengths: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name, path in self.config.benchmarks.items():
            counts: Counter[int] = Counter()
            places: dict[int, tuple[str, str]] = {}
            for row in read_source(_source(path), ("question",)):
                self.items[name] += 1
                words = words_of(row["question"])
                length = self.config.n if len(words) >= self.config.n else len(words)
                if length < min(SHORTEST, self.config.n):
                    continue
                self._lengths.add(length)
                item = str(row.get("source_id") or row.get("source_row") or row["id"])
                own = {hash(gram) for _, gram in _grams(words, length)}
                counts.update(own)
                places.update(dict.fromkeys(own - places.keys(), (name, item)))
            common = {gram for gram, count in counts.items() if count >= self.config.boilerplate}
            self._places.update({g: place for g, place in places.items() if g not in common and g not in self._places})

    def find(self, words: list[str]) -> tuple[list[tuple[str, str, str]], float]:
        """The benchmark items with which a text shares an n-gram, and the share of its n-grams that are shared."""
        shared_items: dict[tuple[str, str], str] = {}
        shared = total = 0
        for length in sorted(self._lengths, reverse=True):
            for at, gram in _grams(words, length):
                place = self._places.get(hash(gram))
                if length == self.config.n:
                    total += 1
                    shared += place is not None
                if place is not None:
                    shared_items.setdefault(place, " ".join(words[at : at + length]))
        return [(*place, gram) for place, gram in shared_items.items()], shared / total if total else float(
            bool(shared_items)
        )


def _grams(words: list[str], length: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    for at in range(len(words) - length + 1):
        yield at, tuple(words[at : at + length])


def _source(path: str) -> SourceConfig:
    return SourceConfig(input=path)
