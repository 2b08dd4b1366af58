"""Difficulty sampling (paper, section 2.3): overly easy questions go, by a scorer trained on fail rates.

Either all below a threshold go, or questions are sampled to a target distribution over equal bins of [0, 1]. The scorer
is served by an engine, as the judge is, and never beside it: all rows are read first, and wait on disk. Scores are
kept (`sq/synth/score_store.py`), so another threshold costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sq.core.config import setting
from sq.core.count import count_noun
from sq.core.errors import ConfigError, problems_under_key
from sq.core.ledger import Reject, WorkItem
from sq.core.rows import row_id
from sq.engine.base import ScoreRequest
from sq.engine.config import EngineConfig
from sq.engine.conversations import REGRESSOR_NOTE
from sq.engine.failures import rejected, unfinished
from sq.models.load import ModelConfig, locate
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.filters.models import like_the_judges
from sq.synth.filters.spool import Spool
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.score_store import ScoreStore
from sq.synth.stage import ItemResult

KEY = "filters.difficulty.model"


@dataclass(frozen=True, kw_only=True)
class DifficultyFilter(FilterConfig):
    """Removes what is too easy, or samples to a target distribution."""

    asks_model: ClassVar = True
    ignored_fields: ClassVar = ("engine",)

    model: ModelConfig | None = setting(None, help="the scorer that stage=difficulty trained: its name and path")
    engine: EngineConfig | None = setting(
        None,
        help="what serves it, as in +engine@filters.difficulty.engine=hf; default: like engine=, without what is for "
        "the judge's model (lora, quantization, ...), hf beside an endpoint",
    )
    threshold: float | None = setting(None, help="keep questions at least so hard")
    target: list[float] = setting([], ge=0, help="or: share of each of so many equal bins from 0 to 1")
    generators: list[str] = setting([], help="only questions of these generators; empty: of all")

    def __post_init__(self) -> None:
        if (self.threshold is None) is (not self.target):
            raise ValueError("give threshold or target, one of the two")
        if self.target and not sum(self.target) > 0:
            raise ValueError(f"target={self.target} keeps nothing")

    def asked_model(self, model: ModelConfig, engine: EngineConfig) -> tuple[None, EngineConfig]:
        """The scorer, by its own engine, else one like the judge's, or hf beside an endpoint."""
        return None, self.engine or like_the_judges(engine)

    @property
    def needs_all_rows(self) -> bool:
        """How many of a bin stay is a matter of all of them."""
        return bool(self.target)

    def fingerprint_fields(self, context: FilterContext) -> Mapping[str, Any]:
        """The scorer and its engine."""
        if self.model is None:
            raise ConfigError(
                "filters=[difficulty] needs a scorer: filters.difficulty.model={name: scorer, path: DIR}, where DIR is "
                "the model of train.py stage=difficulty"
            )
        with problems_under_key(KEY):
            if not (Path(locate(self.model)) / REGRESSOR_NOTE).is_file():
                raise ConfigError(
                    f"model.path={self.model.path!r} is no difficulty regressor of ours: it has no {REGRESSOR_NOTE}"
                )
            return {f"scorer.{name}": value for name, value in self._scorer(context).scoring_fields.items()}

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Add difficulty and difficulty_model; remove what is too easy or too many."""
        scorer = self._scorer(context)
        store = f"difficulty-{row_id('scorer', **scorer.scoring_fields)[:12]}"
        with Spool(context.scores) as spool:
            for case in cases:
                spool.add(case)
            with ScoreStore(context.scores / store) as scores:
                context.models.close()  # the judge's memory is the scorer's now
                try:
                    rejects, failures = self._score(spool, scorer, scores)
                finally:
                    scorer.close()
                if failures and context.whole:
                    left = count_noun(len(failures), "question")
                    raise unfinished(f"the scorer gave no score to {left}", list(failures.values()))
                drawn = self._draw(spool, scores, context.seed)
                for case in spool:
                    key = self._key(case)
                    if key in scores:
                        case.row |= {"difficulty": float(scores.get(key)), "difficulty_model": scorer.identity}
                        self._remove_easy(case, drawn, context.seed)
                    elif key in rejects:
                        case.remove(rejects[key].reason, rejects[key].detail)
                    elif key in failures:
                        case.fail(failures[key])
                    yield case

    def _scorer(self, context: FilterContext) -> ModelClient:
        assert self.model is not None
        return context.models.scorer(self.model, self.engine)

    def _key(self, case: FilterItem) -> str:
        """The key of a question's score; empty for one that is not scored."""
        meant = case.reason is None and (not self.generators or case.row.get("generator") in self.generators)
        return row_id("difficulty", text=case.question) if meant else ""

    def _score(self, spool: Spool, scorer: ModelClient, scores: ScoreStore) -> tuple[dict[str, Reject], dict[str, str]]:
        """Score what is not in the store; rejects of questions that the scorer refuses, and requests that failed."""
        asked: set[str] = set()
        rejects: dict[str, Reject] = {}
        failures: dict[str, str] = {}

        def items() -> Iterator[WorkItem]:
            for case in spool:
                key = self._key(case)
                scorer.usage.stored += key in scores
                if key and key not in scores and key not in asked:
                    asked.add(key)
                    yield WorkItem(key, case.question)

        for result in scorer.score(items(), _request_flow):
            if result.failure is not None:
                failures[result.key] = result.failure
            elif result.rejects:
                rejects[result.key] = result.rejects[0]
            else:
                scores.put(result.key, result.rows[0]["score"])
        return rejects, failures

    def _remove_easy(self, case: FilterItem, drawn: set[str], seed: int) -> None:
        difficulty = case.row["difficulty"]
        if self.target and _draw_id(case, seed) not in drawn:
            case.remove("sampled_out", f"bin {self._bin(difficulty)} of {len(self.target)} has enough")
        elif not self.target and difficulty < (self.threshold or 0.0):
            case.remove("too_easy", f"difficulty {difficulty:.3f} is below {self.threshold}")

    def _draw(self, spool: Spool, scores: ScoreStore, seed: int) -> set[str]:
        """As many as there can be with exactly the target's shares, drawn by the seed."""
        if not self.target:
            return set()
        scored = ((case, self._key(case)) for case in spool)
        ranked = sorted((self._bin(scores.get(key)), _draw_id(case, seed)) for case, key in scored if key in scores)
        counts = Counter(place for place, _ in ranked)
        total = sum(self.target)
        shares = {i: share / total for i, share in enumerate(self.target) if share}
        size = min(counts[i] / share for i, share in shares.items())
        left = {i: round(size * share) for i, share in shares.items()}
        drawn: set[str] = set()
        for place, draw in ranked:
            if left.get(place, 0) > 0:
                left[place] -= 1
                drawn.add(draw)
        return drawn

    def _bin(self, difficulty: float) -> int:
        return min(len(self.target) - 1, max(0, int(difficulty * len(self.target))))


def _draw_id(case: FilterItem, seed: int) -> str:
    return row_id("draw", id=case.row["id"], seed=seed)


def _request_flow(item: WorkItem) -> RequestFlow:
    (result,) = yield [ScoreRequest(key=item.key, messages=({"role": "user", "content": item.payload},))]
    if result.score is None:
        return ItemResult(key=item.key, rejects=[rejected({}, result)])
    return ItemResult(key=item.key, rows=[{"score": result.score}])
