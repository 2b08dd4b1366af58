"""Removes questions that came before: the same text, then nearly the same, by MinHash LSH (ours; paper, section 5).

The first of its kind stays, across all generators of the input and, with `against`, the seeds. Streaming: kept
questions are remembered by the hashes of their shingles and bands in sorted arrays, about 450 bytes each.

Questions of one long template share most bands with each other and are no duplicates. So that each is not compared
with all, a bucket takes `BUCKET` of them, and those after are looked up by their rarest shingles too, where a shingle
brings up at most `COMMON`. One that shares with the question it repeats only shingles more common than that may stay.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sq.core.config import setting
from sq.data.sources import SourceConfig, digest, read_source
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.filters.minhash import Hashes, MinHash, ShortHashes, similarities
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

BUCKET = 32
"""Questions of a bucket that are compared with one that falls into it."""
COMMON = 128
"""Questions that a shingle brings up, of those that found a bucket full."""
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
        self._bands, self._exact, self._rare = SortedRuns(), SortedRuns(), SortedRuns()
        self._shingles, self._shingles_end = array("I"), array("Q", [0])
        self._ids, self._ids_end = bytearray(), array("Q", [0])

    def find(self, ids: list[str], signatures: Signatures) -> list[Match | None]:
        """For each text the row it repeats, how, and how much; None for a new one, which is remembered."""
        block = _Block(signatures, self._exact, self._bands)
        matches: list[Match | None] = []
        for i, name in enumerate(ids):
            own = signatures.shingles_of(i)
            if (first := block.same_text(i)) is not None:
                matches.append((self._id(first), "exact", 1.0))
                continue
            candidates, full = block.candidates(i)
            rare = self._of_rare_shingles(own) if full else None
            if rare:
                candidates.update(dict.fromkeys(rare.numbers))
            matches.append(match := self._most_similar(own, list(candidates)))
            if match is None:
                number = len(self._ids_end) - 1
                block.remember(i, number)
                self._store(name, own)
                if rare:
                    self._rare.add(rare.open, np.full(len(rare.open), number, dtype=np.uint32))
        self._exact.add(*block.texts_kept())
        self._bands.add(*block.bands_kept())
        return matches

    def _of_rare_shingles(self, own: ShortHashes) -> _Rare:
        """Who shares one of its rarest shingles, as one that is near must, and which of its shingles take one more."""
        keys = own.astype(np.uint64)
        places, numbers = self._rare.find(keys)
        of: list[list[int]] = [[] for _ in own]
        for place, number in zip(places, numbers, strict=True):
            of[place].append(number)
        rarest = sorted(of, key=len)[: len(own) - math.ceil(self._near * len(own)) + 1]
        return _Rare(list(itertools.chain(*rarest)), keys[[len(one) < COMMON for one in of]])

    def _most_similar(self, own: ShortHashes, candidates: list[int]) -> Match | None:
        ends = self._shingles_end
        lengths = [ends[one + 1] - ends[one] for one in candidates]
        near = [(one, length) for one, length in zip(candidates, lengths, strict=True)
                if min(len(own), length) >= self._near * max(len(own), length)]  # fmt: skip
        if not near:
            return None
        others = b"".join(self._shingles[ends[one] : ends[one + 1]].tobytes() for one, _ in near)
        similar = similarities(own, np.frombuffer(others, dtype=np.uint32), np.array([length for _, length in near]))
        best = int(similar.argmax())
        return (self._id(near[best][0]), "near", float(similar[best])) if similar[best] >= self._near else None

    def _store(self, name: str, shingles: ShortHashes) -> None:
        self._ids += name.encode("utf-8", "surrogatepass")
        self._ids_end.append(len(self._ids))
        self._shingles.frombytes(shingles.tobytes())
        self._shingles_end.append(len(self._shingles))

    def _id(self, number: int) -> str:
        return self._ids[self._ids_end[number] : self._ids_end[number + 1]].decode("utf-8", "surrogatepass")


class _Rare(NamedTuple):
    """By shingles of a question, of those that found a bucket full: who shares one, and which take one more."""

    numbers: list[int]
    open: NDArray[np.uint64]


class _Block:
    """Texts that are looked up together: what they share with those before the block, and among each other."""

    def __init__(self, signatures: Signatures, before_exact: SortedRuns, before: SortedRuns) -> None:
        exact, self._keys = signatures.exact, signatures.bands
        self._exact = exact.tolist()
        self._first: dict[int, int] = {}
        for i, number in zip(*before_exact.find(exact), strict=True):
            self._first.setdefault(self._exact[i], number)
        bands = self._keys.shape[1]
        self._before: dict[int, dict[int, list[int]]] = {}
        for at, number in zip(*before.find(self._keys.ravel()), strict=True):
            self._before.setdefault(at // bands, {}).setdefault(at % bands, []).append(number)
        values, counts = np.unique(self._keys, return_counts=True)
        shared = np.isin(self._keys, values[counts > 1])
        self._shared = {i: [(band, int(self._keys[i, band])) for band in np.flatnonzero(shared[i]).tolist()]
                        for i in np.flatnonzero(shared.any(axis=1)).tolist()}  # fmt: skip
        self._within: dict[int, list[int]] = {}
        self._kept: dict[int, int] = {}
        self._takes = np.ones(self._keys.shape, dtype=bool)

    def same_text(self, i: int) -> int | None:
        """The number of the question with the same words."""
        return self._first.get(self._exact[i])

    def candidates(self, i: int) -> tuple[dict[int, None], bool]:
        """Numbers of the questions in its buckets, band by band, the earliest first; whether one of these is full."""
        before, shared = self._before.get(i, {}), dict(self._shared.get(i, ()))
        found: dict[int, None] = {}
        for band in sorted(before.keys() | shared.keys()):
            bucket = [*before.get(band, ()), *self._within.get(shared.get(band, -1), ())]
            self._takes[i, band] = len(bucket) < BUCKET
            found.update(dict.fromkeys(bucket))
        return found, not self._takes[i].all()

    def remember(self, i: int, number: int) -> None:
        """The text stays, as the question of this number."""
        self._first[self._exact[i]] = number
        self._kept[i] = number
        for band, key in self._shared.get(i, ()):
            if self._takes[i, band]:
                self._within.setdefault(key, []).append(number)

    def texts_kept(self) -> tuple[Hashes, ShortHashes]:
        """Hashes and numbers of the texts that stay."""
        return np.array([self._exact[i] for i in self._kept], dtype=np.uint64), self._numbers()

    def bands_kept(self) -> tuple[Hashes, ShortHashes]:
        """Buckets that take one of those, and its number."""
        kept = list(self._kept)
        takes = self._takes[kept]
        return self._keys[kept][takes], np.repeat(self._numbers(), takes.sum(axis=1))

    def _numbers(self) -> ShortHashes:
        return np.array(list(self._kept.values()), dtype=np.uint32)


def _questions(rows: list[dict[str, Any]]) -> list[str]:
    return [row["question"] for row in rows]
