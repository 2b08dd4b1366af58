"""Removes questions that came before: the same text, then nearly the same, by MinHash LSH (ours; paper, section 5).

The first of its kind stays, across all generators of the input and, with `against`, the seeds. Streaming: kept
questions are remembered by the hashes of their shingles and bands in sorted arrays, about 450 bytes each.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from sq.core.config import setting
from sq.data.sources import SourceConfig, digest, read_source
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.filters.minhash import MinHash, ShortHashes, jaccard
from sq.synth.filters.signatures import (
    BATCH,
    PROCESSES,
    Signatures,
    Signer,
    blocks_of,
    open_questions,
    signing_processes,
)
from sq.synth.filters.sorted_runs import SortedRuns

Match: TypeAlias = tuple[str, str, float]
"""The id of the row that is repeated, "exact" or "near", and the similarity."""


@dataclass(frozen=True, kw_only=True)
class DuplicatesFilter(FilterConfig):
    """Keeps the first of what is the same, or nearly."""

    ignored_fields: ClassVar[tuple[str, ...]] = ("processes",)

    similarity: float = setting(
        0.8, gt=0, le=1, help="Jaccard similarity of word shingles that makes a duplicate; 1: exact only"
    )
    shingle: int = setting(3, ge=1, help="words in a shingle")
    bands: int = setting(10, ge=1, help="more find more, and cost more")
    rows: int = setting(5, ge=1, help="hashes in a band: more make it stricter")
    against: list[str] = setting([], help="files or stages whose questions count as seen, the seeds for one")
    processes: int | None = setting(
        None, ge=1, help=f"of this machine that hash the texts; default: one a core, at most {PROCESSES}"
    )

    @property
    def needs_all_rows(self) -> bool:
        """A row is a duplicate of one before it."""
        return True

    def fingerprint_fields(self, context: FilterContext) -> Mapping[str, Any]:
        """The content of what counts as seen."""
        return {f"against.{i}": digest(SourceConfig(input=name), context.domain) for i, name in enumerate(self.against)}

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Add duplicate_of, duplicate_kind and duplicate_similarity to what is removed."""
        index = DuplicateIndex(self)
        for name in self.against:
            rows = read_source(SourceConfig(input=name), ("question",), domain=context.domain)
            for batch, signatures in index.signer.sign_blocks(blocks_of(rows, BATCH), _questions):
                index.find([row["id"] for row in batch], signatures)
        for block, signatures in index.signer.sign_blocks(blocks_of(cases, BATCH), open_questions):
            matches = iter(index.find([case.row["id"] for case in block if case.reason is None], signatures))
            for case in block:
                if case.reason is None and (match := next(matches)) is not None:
                    first, kind, similarity = match
                    case.row |= {
                        "duplicate_of": first, "duplicate_kind": kind, "duplicate_similarity": similarity
                    }  # fmt: skip
                    case.remove("duplicate", f"{kind}, {similarity:.2f} like {first}")
                yield case


class DuplicateIndex:
    """The questions kept so far, each with the id of its row: about 450 bytes a question of 45 words."""

    def __init__(self, config: DuplicatesFilter) -> None:
        near = config.similarity < 1
        self._near = config.similarity
        minhash = MinHash(bands=config.bands, rows=config.rows, width=config.shingle) if near else None
        self.signer = Signer(minhash, signing_processes(config.processes))
        self._bands, self._exact = SortedRuns(), SortedRuns()
        self._shingles, self._shingles_end = array("I"), array("Q", [0])
        self._ids, self._ids_end = bytearray(), array("Q", [0])

    def find(self, ids: list[str], signatures: Signatures) -> list[Match | None]:
        """For each text the row it repeats, how, and how much; None for a new one, which is remembered."""
        block = _Block(signatures, self._exact, self._bands)
        matches: list[Match | None] = []
        kept: list[int] = []
        for i, name in enumerate(ids):
            own = signatures.shingles_of(i)
            match = self._match(block, i, own)
            matches.append(match)
            if match is None:
                block.remember(i, len(self._ids_end) - 1)
                kept.append(i)
                self._store(name, own)
        numbers = np.arange(len(self._ids_end) - 1 - len(kept), len(self._ids_end) - 1, dtype=np.uint32)
        keys = signatures.bands[kept]
        self._exact.add(signatures.exact[kept], numbers)
        self._bands.add(keys.ravel(), np.repeat(numbers, keys.shape[1]))
        return matches

    def _match(self, block: _Block, i: int, own: ShortHashes) -> Match | None:
        first = block.same_text(i)
        if first is not None:
            return self._id(first), "exact", 1.0
        best: tuple[int, float] | None = None
        for candidate in block.candidates(i):
            other = self._stored(candidate)
            if min(len(own), len(other)) < self._near * max(len(own), len(other)):
                continue
            similarity = jaccard(own, other)
            if similarity >= self._near and (best is None or similarity > best[1]):
                best = candidate, similarity
        return None if best is None else (self._id(best[0]), "near", best[1])

    def _store(self, name: str, shingles: ShortHashes) -> None:
        self._ids += name.encode("utf-8", "surrogatepass")
        self._ids_end.append(len(self._ids))
        self._shingles.frombytes(shingles.tobytes())
        self._shingles_end.append(len(self._shingles))

    def _id(self, number: int) -> str:
        return self._ids[self._ids_end[number] : self._ids_end[number + 1]].decode("utf-8", "surrogatepass")

    def _stored(self, number: int) -> ShortHashes:
        start, end = self._shingles_end[number], self._shingles_end[number + 1]
        return np.array(self._shingles[start:end], dtype=np.uint32)


class _Block:
    """Texts that are looked up together: what they share with those before the block, and among each other."""

    def __init__(self, signatures: Signatures, before_exact: SortedRuns, before: SortedRuns) -> None:
        exact, keys = signatures.exact, signatures.bands
        self._exact = exact.tolist()
        self._first: dict[int, int] = {}
        for i, number in zip(*before_exact.find(exact), strict=True):
            self._first.setdefault(self._exact[i], number)
        bands = keys.shape[1]
        self._before: dict[int, dict[int, list[int]]] = {}
        for at, number in zip(*before.find(keys.ravel()), strict=True):
            self._before.setdefault(at // bands, {}).setdefault(at % bands, []).append(number)
        values, counts = np.unique(keys, return_counts=True)
        shared = np.isin(keys, values[counts > 1])
        self._shared = {i: [(band, int(keys[i, band])) for band in np.flatnonzero(shared[i])]
                        for i in np.flatnonzero(shared.any(axis=1)).tolist()}  # fmt: skip
        self._within: dict[int, list[int]] = {}

    def same_text(self, i: int) -> int | None:
        """The number of the question with the same words."""
        return self._first.get(self._exact[i])

    def candidates(self, i: int) -> dict[int, None]:
        """Numbers of the questions that share a band with it: band by band, the earliest first."""
        before, shared = self._before.get(i, {}), dict(self._shared.get(i, ()))
        found: dict[int, None] = {}
        for band in sorted(before.keys() | shared.keys()):
            found.update(dict.fromkeys(before.get(band, ())))
            found.update(dict.fromkeys(self._within.get(shared.get(band, -1), ())))
        return found

    def remember(self, i: int, number: int) -> None:
        """The text stays, as the question of this number."""
        self._first[self._exact[i]] = number
        for _, key in self._shared.get(i, ()):
            self._within.setdefault(key, []).append(number)


def _questions(rows: list[dict[str, Any]]) -> list[str]:
    return [row["question"] for row in rows]
