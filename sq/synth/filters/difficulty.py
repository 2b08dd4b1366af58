"""Difficulty sampling (paper, section 2.3): overly easy questions go, by a scorer trained on fail rates.

Either all below a threshold go, or questions are sampled to a target distribution over equal bins of [0, 1]. Scores
are kept (`sq/synth/score_store.py`), so another threshold costs nothing.
"""

from __future__ import annotations

import itertools
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sq.core.config import setting
from sq.core.errors import ConfigError, EngineError, problems_under_key
from sq.core.rows import row_id
from sq.engine.meter import Usage
from sq.models.load import ModelConfig, computed_in, fingerprint
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.score_store import ScoreStore

BATCH = 1024
KEY = "filters.difficulty.model"


class DifficultyScorer(Protocol):
    """Anything that says how hard questions are, from 0 to 1."""

    def __call__(self, questions: Sequence[str]) -> list[float]:
        """One score a question, in their order."""
        ...


@dataclass(frozen=True, kw_only=True)
class DifficultyFilter(FilterConfig):
    """Removes what is too easy, or samples to a target distribution."""

    model: ModelConfig | None = setting(None, help="the scorer that stage=difficulty trained: its name and path")
    threshold: float | None = setting(None, help="keep questions at least so hard")
    target: list[float] = setting([], ge=0, help="or: share of each of so many equal bins from 0 to 1")
    generators: list[str] = setting([], help="only questions of these generators; empty: of all")

    def __post_init__(self) -> None:
        if (self.threshold is None) is (not self.target):
            raise ValueError("give threshold or target, one of the two")
        if self.target and not sum(self.target) > 0:
            raise ValueError(f"target={self.target} keeps nothing")

    def fingerprint_fields(self, context: FilterContext) -> Mapping[str, Any]:
        """The scorer's weights."""
        with problems_under_key(KEY):
            return {"scorer": fingerprint(self._model), "dtype": scoring_dtype(self._model)}

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Add difficulty and difficulty_model; remove what is too easy or too many."""
        scored = self._scored(cases, context)
        yield from self._sampled(scored, context) if self.target else map(self._above, scored)

    @property
    def _model(self) -> ModelConfig:
        if self.model is None:
            raise ConfigError(
                "filters=[difficulty] needs a scorer: filters.difficulty.model={name: scorer, path: DIR}, where DIR is "
                "the model of train.py stage=difficulty"
            )
        return self.model

    def _scored(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        scorer, name = LazyScorer(self._model, context.usage), fingerprint(self._model)
        with ScoreStore(context.scores / f"difficulty-{name}-{scoring_dtype(self._model)}") as scores:
            while block := list(itertools.islice(cases, BATCH)):
                own = {row_id("difficulty", text=c.question, model=name): c.question for c in block if self._applies(c)}
                missing = [key for key in own if key not in scores]
                for key, score in zip(missing, scorer([own[key] for key in missing]), strict=True):
                    if not math.isfinite(score):
                        raise EngineError(f"{KEY}: the scorer's numbers overflowed: {score} for {own[key]!r}")
                    scores.put(key, score)
                for case in block:
                    if self._applies(case):
                        key = row_id("difficulty", text=case.question, model=name)
                        case.row |= {"difficulty": float(scores.get(key)), "difficulty_model": name}
                    yield case

    def _applies(self, case: FilterItem) -> bool:
        return case.reason is None and (not self.generators or case.row.get("generator") in self.generators)

    def _above(self, case: FilterItem) -> FilterItem:
        if self._applies(case) and case.row["difficulty"] < (self.threshold or 0.0):
            case.remove("too_easy", f"difficulty {case.row['difficulty']:.3f} is below {self.threshold}")
        return case

    def _sampled(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Two passes, the rows on disk in between: the bins must be counted before any question can go."""
        counts: Counter[int] = Counter()
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass") as file:
            ranked: list[tuple[int, str]] = []
            for case in cases:
                if self._applies(case):
                    counts[self._bin(case)] += 1
                    ranked.append((self._bin(case), row_id("draw", id=case.row["id"], seed=context.seed)))
                file.write(json.dumps([case.row, case.reason, case.detail]) + "\n")
            kept = self._drawn(counts, ranked)
            file.seek(0)
            for line in file:
                case = FilterItem(*json.loads(line))
                if self._applies(case) and row_id("draw", id=case.row["id"], seed=context.seed) not in kept:
                    case.remove("sampled_out", f"bin {self._bin(case)} of {len(self.target)} has enough")
                yield case

    def _drawn(self, counts: Counter[int], ranked: list[tuple[int, str]]) -> set[str]:
        """As many as there can be with exactly the target's shares, drawn by the seed."""
        total = sum(self.target)
        shares = {i: share / total for i, share in enumerate(self.target) if share}
        size = min(counts[i] / share for i, share in shares.items())
        kept: set[str] = set()
        room = {i: round(size * share) for i, share in shares.items()}
        for at, draw in sorted(ranked):
            if room.get(at, 0) > 0:
                room[at] -= 1
                kept.add(draw)
        return kept

    def _bin(self, case: FilterItem) -> int:
        return min(len(self.target) - 1, max(0, int(case.row["difficulty"] * len(self.target))))


def scoring_dtype(model: ModelConfig) -> str:
    """The number format that the scorer computes in here."""
    import torch

    return computed_in(model, "auto", "cuda" if torch.cuda.is_available() else "cpu")


class LazyScorer:
    """The regressor, loaded when the first question needs it."""

    def __init__(self, model: ModelConfig, usage: Usage) -> None:
        self._model, self._usage = model, usage
        self._regressor: Any = None

    def __call__(self, questions: Sequence[str]) -> list[float]:
        if not questions:
            return []
        from sq.data.scoring import score_questions
        from sq.models.regressor import Regressor

        begun = time.monotonic()
        if self._regressor is None:
            with problems_under_key(KEY):
                self._regressor = Regressor(self._model)
            self._usage.start_seconds += time.monotonic() - begun
            begun = time.monotonic()
        scores = score_questions(self._regressor, questions)
        self._usage.score_seconds += time.monotonic() - begun
        self._usage.scored += len(questions)
        self._usage.scored_tokens += sum(len(self._regressor.chat.question_ids(text).ids) for text in questions)
        return scores
