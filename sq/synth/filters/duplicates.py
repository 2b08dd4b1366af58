"""Removes questions that came before: the same text, then nearly the same, by MinHash LSH (ours; paper, section 5).

The first of its kind stays, across all generators of the input and, with `against`, the seeds. Streaming: kept
questions are remembered by the hashes of their shingles, about 1.5 KB each.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sq.core.config import setting
from sq.data.sources import SourceConfig, digest, read_source
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.filters.minhash import Hashes, MinHash, jaccard
from sq.synth.filters.words import words_of

BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class DuplicatesFilter(FilterConfig):
    """Keeps the first of what is the same, or nearly."""

    similarity: float = setting(
        0.8, gt=0, le=1, help="Jaccard similarity of word shingles that makes a duplicate; 1: exact only"
    )
    shingle: int = setting(3, ge=1, help="words in a shingle")
    bands: int = setting(10, ge=1, help="more find more, and cost more")
    rows: int = setting(5, ge=1, help="hashes in a band: more make it stricter")
    against: list[str] = setting([], help="files or stages whose questions count as seen, the seeds for one")

    def fingerprint_fields(self, context: FilterContext) -> Mapping[str, Any]:
        """The content of what counts as seen."""
        return {f"against.{i}": digest(SourceConfig(input=name), context.domain) for i, name in enumerate(self.against)}

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Add duplicate_of, duplicate_kind and duplicate_similarity to what is removed."""
        index = DuplicateIndex(self)
        for name in self.against:
            rows = read_source(SourceConfig(input=name), ("question",), domain=context.domain)
            while batch := list(itertools.islice(rows, BATCH)):
                for _ in index.find([(row["id"], row["question"]) for row in batch]):
                    pass
        while block := list(itertools.islice(cases, BATCH)):
            matches = index.find([(case.row["id"], case.question) for case in block if case.reason is None])
            for case in block:
                if case.reason is None and (match := next(matches)) is not None:
                    first, kind, similarity = match
                    case.row |= {
                        "duplicate_of": first, "duplicate_kind": kind, "duplicate_similarity": similarity
                    }  # fmt: skip
                    case.remove("duplicate", f"{kind}, {similarity:.2f} like {first}")
                yield case


class DuplicateIndex:
    """The questions kept so far, each with the id of its row."""

    def __init__(self, config: DuplicatesFilter) -> None:
        self._near = config.similarity if config.similarity < 1 else None
        self._hash = MinHash(bands=config.bands, rows=config.rows, width=config.shingle)
        self._exact: dict[bytes, int] = {}
        self._buckets: list[dict[int, int | list[int]]] = [{} for _ in range(config.bands)]
        self._shingles: list[Hashes] = []
        self._ids: list[str] = []

    def find(self, texts: list[tuple[str, str]]) -> Iterator[tuple[str, str, float] | None]:
        """For each text the row it repeats, how, and how much; None for a new one, which is remembered."""
        words = [words_of(text) for _, text in texts]
        shingles: list[Hashes] = []
        keys: list[list[int]] = []
        if self._near is not None and texts:
            shingles = self._hash.shingles(words)
            keys = self._hash.keys(shingles).tolist()
        for i, (name, _) in enumerate(texts):
            exact = hashlib.blake2b(" ".join(words[i]).encode("utf-8", "surrogatepass"), digest_size=12).digest()
            first = self._exact.get(exact)
            if first is not None:
                yield self._ids[first], "exact", 1.0
            elif keys and (near := self._nearest(shingles[i], keys[i])) is not None:
                yield self._ids[near[0]], "near", near[1]
            else:
                self._remember(name, exact, shingles[i] if keys else None, keys[i] if keys else [])
                yield None

    def _nearest(self, shingles: Hashes, keys: list[int]) -> tuple[int, float] | None:
        candidates: dict[int, None] = {}
        for bucket, key in zip(self._buckets, keys, strict=True):
            held = bucket.get(key)
            if held is not None:
                candidates.update(dict.fromkeys([held] if isinstance(held, int) else held))
        best: tuple[int, float] | None = None
        for candidate in candidates:
            other = self._shingles[candidate]
            if min(len(shingles), len(other)) < (self._near or 0) * max(len(shingles), len(other)):
                continue
            similarity = jaccard(shingles, other)
            if similarity >= (self._near or 0) and (best is None or similarity > best[1]):
                best = candidate, similarity
        return best

    def _remember(self, name: str, exact: bytes, shingles: Hashes | None, keys: list[int]) -> None:
        number = len(self._ids)
        self._ids.append(name)
        self._exact[exact] = number
        if shingles is None:
            return
        self._shingles.append(np.array(shingles))
        for bucket, key in zip(self._buckets, keys, strict=True):
            held = bucket.get(key)
            if held is None:
                bucket[key] = number
            elif isinstance(held, int):
                bucket[key] = [held, number]
            else:
                held.append(number)
