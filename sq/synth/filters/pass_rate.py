"""How often a solver passes a question, asked of the solver itself: the share of its samples with the right answer.

Right is the reference where a question has one. Else the answer that most of the first `step` samples have: they choose
it and are not counted, so that the count is of independent samples. Sampling stops as soon as a confidence sequence
(`sq.core.intervals`), which holds at whatever look it is stopped, lies on one side of each bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sq.core.config import flatten, setting
from sq.core.intervals import confidence_sequence
from sq.core.ledger import WorkItem
from sq.core.rows import row_id
from sq.domains.base import Candidates, check_answers
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.filters.waiting import replies_in_order
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.score_store import ScoreStore
from sq.synth.stage import ItemResult

COLUMNS = ("pass_rate", "pass_rate_samples", "pass_rate_tokens")


@dataclass(frozen=True, kw_only=True)
class PassRateFilter(FilterConfig):
    """Keeps questions that the solver (model= and engine= of the job) passes neither too seldom nor too often."""

    asks_model: ClassVar = True

    min: float = setting(0.2, ge=0, le=1, help="lowest pass rate of a question that stays")
    max: float = setting(1.0, ge=0, le=1, help="highest pass rate of a question that stays")
    k: int = setting(16, ge=2, help="most samples of a question")
    step: int = setting(4, ge=1, help="samples asked for at a time")
    level: float = setting(0.95, gt=0, lt=1, help="of the interval that ends sampling early")
    temperature: float = setting(0.7, gt=0)
    top_p: float = setting(0.95, gt=0, le=1)
    max_tokens: int = setting(2048, ge=1)

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"min={self.min} is above max={self.max}, which keeps nothing")
        if self.k < 2 * self.step:
            raise ValueError(f"k={self.k} is less than two steps of {self.step}; set step={self.k // 2} or a larger k")

    def fingerprint_fields(self, context: FilterContext) -> Mapping[str, Any]:
        """The solver, its instruction, and how answers are read and checked."""
        return {**context.models.judge().fingerprint_fields, **context.domain.answer_fields}

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Add the pass rate and its interval; remove what is passed too seldom or too often."""
        client = context.models.judge()
        solver = _Solver(self, client, context)
        store = f"pass-rate-{row_id('solver', **client.fingerprint_fields)[:12]}"
        with ScoreStore(context.scores / store) as scores:
            answered = replies_in_order(
                client, cases, scores, key=solver.key, request_flow=solver.request_flow, whole=context.whole,
                who="the solver",
            )  # fmt: skip
            for case, measured in answered:
                if measured is not None and case.reason is None:
                    case.row |= {**measured, "pass_rate_model": client.identity}
                    self._remove(case)
                yield case

    def decided(self, low: float, high: float) -> bool:
        """Whether an interval lies on one side of each bound."""
        return high < self.min or low > self.max or (low >= self.min and high <= self.max)

    def _remove(self, case: FilterItem) -> None:
        rate = case.row["pass_rate"]
        if not self.min <= rate <= self.max:
            count = f"{rate:.3f} of {case.row['pass_rate_samples']} samples"
            case.remove("rarely_passed" if rate < self.min else "too_easy", count)


class _Solver:
    """Samples answers to a question until its pass rate is known well enough."""

    def __init__(self, config: PassRateFilter, client: ModelClient, context: FilterContext) -> None:
        self._config, self._client, self._domain, self._seed = config, client, context.domain, context.seed
        self._sampling = client.sampling(
            n=config.step, temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens,
            setting="filters.pass_rate.max_tokens",
        )  # fmt: skip
        self._decided_by = {
            **client.fingerprint_fields, **flatten(config, "filter"), **self._domain.answer_fields, "seed": self._seed,
        }  # fmt: skip

    def key(self, case: FilterItem) -> str:
        """The key of a question's pass rate."""
        return row_id("pass_rate", question=case.question, answer=case.row.get("answer"), **self._decided_by)

    def request_flow(self, item: WorkItem) -> RequestFlow:
        """Sample in steps until k, or until the interval decides."""
        case, config = item.payload, self._config
        samples: list[tuple[str | None, str]] = []
        tokens = 0
        while len(samples) < config.k:
            sampling = replace(self._sampling, n=min(config.step, config.k - len(samples)))
            key = row_id("pass_rate_step", of=item.key, first=len(samples))
            request, result = yield from self._client.ask(
                {}, key, case.question, sampling, instruction=self._domain.instruction
            )
            for completion in self._client.full_replies(request, result):
                answer = self._client.final_answer(self._domain, completion)
                samples.append((answer, completion.text))
                tokens += completion.tokens
            answer, right, total = self._counted(case, samples)
            low, high = confidence_sequence(right, total, config.level)
            if total and config.decided(low, high):
                break
        measured = {
            "pass_rate": right / total, "pass_rate_low": low, "pass_rate_high": high, "pass_rate_answer": answer,
            "pass_rate_samples": len(samples), "pass_rate_tokens": tokens,
        }  # fmt: skip
        return ItemResult(key=item.key, rows=[measured])

    def _counted(self, case: FilterItem, samples: list[tuple[str | None, str]]) -> tuple[str | None, int, int]:
        """The answer that counts as right, how many samples have it, and of how many."""
        if (reference := case.row.get("answer")) is not None:
            right = check_answers(self._domain, [answer for answer, _ in samples], reference)
            return reference, sum(right), len(samples)
        first = [(answer, text) for answer, text in samples[: self._config.step] if answer is not None]
        later = [(answer, text) for answer, text in samples[self._config.step :] if answer is not None]
        total = len(samples) - self._config.step
        if not first:
            return None, 0, total
        keys = self._vote(case, [first])[0]
        chosen = keys.index(Counter(keys).most_common(1)[0][0])
        # each later sample votes with the first ones alone: what it counts as must not depend on other later samples
        votes = self._vote(case, [[*first, sample] for sample in later])
        return first[chosen][0], sum(keys[-1] == keys[chosen] for keys in votes), total

    def _vote(self, case: FilterItem, groups: list[list[tuple[str, str]]]) -> list[tuple[str, ...]]:
        """The keys of the groups that these samples of one question fall into."""
        candidates = [
            Candidates(question=case.row, answers=[a for a, _ in samples], responses=[t for _, t in samples])
            for samples in groups
        ]
        return [voted.keys for voted in self._domain.vote_many(candidates)]


def pass_rate_metrics(rows: Iterable[Mapping[str, Any]], most: int) -> dict[str, float]:
    """What the solver was asked for, and what stopping early saved; nothing where it was not asked."""
    asked = samples = tokens = 0
    rates = saved = 0.0
    for row in rows:
        if row.get("pass_rate") is not None:
            asked += 1
            rates += row["pass_rate"]
            samples += row["pass_rate_samples"]
            tokens += row["pass_rate_tokens"]
            saved += (most - row["pass_rate_samples"]) * row["pass_rate_tokens"] / row["pass_rate_samples"]
    if not asked:
        return {}
    return {
        "pass_rate/mean": rates / asked,
        "pass_rate/samples": float(samples),
        "pass_rate/tokens_saved": saved,
        "pass_rate/tokens_saved_share": saved / max(saved + tokens, 1.0),
    }
