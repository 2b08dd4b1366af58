"""Keeps a share of the questions, drawn so that they say and ask what seeds do, as often as these do.

Features of a question are its words, the words and word pairs of its last sentence, which is where it asks, and its
number of sentences. Each question stays with a chance, a logistic function of its features, such that the expected
frequency of every feature among those that stay is that of the seeds, as far as there are such questions: raking, or
calibration to known margins (Deville and Särndal, 1992; Hainmueller, "Entropy balancing", 2012), with a ridge penalty.
The questions are drawn by these chances without replacement (Rosén, "Pareto sampling", 1997). Rows wait on disk; the
weights are fitted to a sample, and 17 bytes a row are held in memory.
"""

from __future__ import annotations

import math
import re
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sq.core.config import setting
from sq.data.sources import SourceConfig, digest, read_source
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.filters.spool import Spool, draw
from sq.synth.filters.words import words_of

BUCKETS = 1 << 14
"""Features are hashed into so many."""
SAMPLE = 100_000
"""Questions that the weights are fitted to at most, and seeds."""
MOST_SENTENCES = 15
WIDTH = BUCKETS + MOST_SENTENCES + 1
Weights: TypeAlias = NDArray[np.float64]
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")


class Fit(NamedTuple):
    """Weights of features, and how far their frequencies are from the seeds', of all and of those expected to stay."""

    weights: Weights
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class RakingFilter(FilterConfig):
    """A sample of the questions that has the seeds' proportions."""

    keep: float = setting(0.5, gt=0, lt=1, help="share of the questions that stay: the fewer, the nearer to the seeds")
    like: list[str] = setting([], help="files or stages whose proportions are taken; default: the domain's seeds")
    seeds: int = setting(2500, ge=1, le=SAMPLE, help="seeds of the domain, or rows of each of `like`, that are read")
    penalty: float = setting(0.01, gt=0, help="of the squared weights: more keeps nearer to a plain random sample")

    @property
    def needs_all_rows(self) -> bool:
        """What stays depends on what else there is."""
        return True

    @property
    def share_kept(self) -> float | None:
        """As many as are asked for."""
        return self.keep

    def fingerprint_fields(self, context: FilterContext) -> Mapping[str, Any]:
        """The content of what the proportions are taken from."""
        if not self.like:
            return {"like": context.domain.digest}
        return {f"like.{i}": digest(SourceConfig(input=name), context.domain) for i, name in enumerate(self.like)}

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Remove all but the share that is kept; nothing goes on before the last row is in."""
        wanted = frequencies(map(features, self._seeds(context)))
        with Spool(context.scores) as spool:
            count = 0
            for case in cases:
                spool.add(case)
                count += case.reason is None
            weights = self._weights(spool, count, wanted, context)
            times = array("d", (
                _logit(draw(context.seed, "raking", case.row["id"])) - float(weights[features(case.question)].sum())
                for case in spool if case.reason is None
            ))  # fmt: skip
            kept = np.zeros(count, dtype=bool)
            kept[np.argsort(np.frombuffer(times), kind="stable")[: round(self.keep * count)]] = True
            stays = iter(kept)
            for case in spool:
                if case.reason is None and not next(stays):
                    case.remove("overrepresented")
                yield case

    def _seeds(self, context: FilterContext) -> list[str]:
        if not self.like:
            return [row["question"] for row in context.domain.seeds(self.seeds, context.seed, "train")]
        sources = [SourceConfig(input=name, limit=self.seeds) for name in self.like]
        return [r["question"] for source in sources for r in read_source(source, ("question",), domain=context.domain)]

    def _weights(self, spool: Spool, count: int, wanted: Weights, context: FilterContext) -> Weights:
        share = SAMPLE / max(count, 1)
        chosen = (c for c in spool if c.reason is None and draw(context.seed, "raking-fit", c.row["id"]) < share)
        if not (questions := [features(case.question) for case in chosen]):
            return np.zeros(WIDTH)
        fitted = fit(questions, wanted, self.keep, self.penalty)
        context.metrics["raking/gap"], context.metrics["raking/gap_kept"] = fitted.before, fitted.after
        return fitted.weights


def features(question: str) -> NDArray[np.int64]:
    """The buckets of what a question says and asks, numbers as one word; each once."""
    sentences = [words for part in _END_OF_SENTENCE.split(question) if (words := _plain(part))]
    last = ["<", *(sentences[-1] if sentences else []), ">"]
    names = {word for words in sentences for word in words}
    asked = {f"? {word}" for word in last} | {f"? {a} {b}" for a, b in pairwise(last)}
    buckets = {zlib.crc32(name.encode("utf-8", "surrogatepass")) % BUCKETS for name in names | asked}
    return np.array(sorted({*buckets, BUCKETS + min(len(sentences), MOST_SENTENCES)}), dtype=np.int64)


def _plain(text: str) -> list[str]:
    return ["#" if word[0].isdigit() else word for word in words_of(text)]


def frequencies(questions: Iterable[NDArray[np.int64]]) -> Weights:
    """In what share of some questions each feature is."""
    total, count = np.zeros(WIDTH), 0
    for buckets in questions:
        total[buckets] += 1
        count += 1
    return total / max(count, 1)


def fit(questions: Sequence[NDArray[np.int64]], wanted: Weights, keep: float, penalty: float) -> Fit:
    """The weight of each feature: those of the logistic chances to stay, `keep` on average, under which features are as
    frequent as wanted. It is the minimum of a convex function, whose gradient is what they lack.
    """
    from scipy import sparse
    from scipy.optimize import minimize
    from scipy.special import expit

    ends = np.cumsum([0, *map(len, questions)])
    there, columns = np.unique(np.concatenate(questions), return_inverse=True)
    of = sparse.csr_matrix((np.ones(ends[-1]), columns, ends), shape=(len(questions), len(there)))
    count, wanted = keep * len(questions), wanted[there]

    def loss(values: Weights) -> tuple[float, Weights]:
        weights, scores = values[1:], values[0] + of @ values[1:]
        chances = expit(scores)
        lacking = (of.T @ chances) / count - wanted + penalty * weights
        value = np.logaddexp(0, scores).sum() / count - values[0] - wanted @ weights + penalty * (weights @ weights) / 2
        return float(value), np.concatenate([[chances.sum() / count - 1], lacking])

    start = np.zeros(len(there) + 1)
    start[0] = np.log(keep / (1 - keep))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    chances = expit(found[0] + of @ found[1:])
    before, after = np.asarray(of.mean(axis=0)).ravel(), (of.T @ chances) / chances.sum()
    gaps = (float(np.abs(share - wanted).sum() / wanted.sum()) for share in (before, after))
    weights = np.zeros(WIDTH)
    weights[there] = found[1:]
    return Fit(weights, *gaps)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
