"""Answers: n solutions to each question, as one request, so that the prompt is prefilled once (paper, section 2.4).

Every solution is kept here, cut-off ones too, with its final answer by the domain's extractor; `select` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sq.core.config import flatten, setting
from sq.core.ledger import WorkItem, read_rows
from sq.core.rows import CANDIDATE, JUDGED, fit_row, row_id, with_extra
from sq.domains.base import Domain, check_answers
from sq.engine.base import Completion, Result, Sampling
from sq.synth.allocation import ALLOCATIONS, samples_wanted
from sq.synth.config import SynthJob, SynthStage
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.stage import ItemResult, StageInput, StageSpec, seed_of

ADDED = tuple(name for name in CANDIDATE.names if name not in JUDGED.names)
"""The columns of an answer."""
FAIL_RATES: dict[str, Callable[[float], float]] = {
    "fail_rate": float,
    "difficulty": float,
    "pass_rate": lambda share: 1 - share,
    "rated_difficulty": lambda of_100: of_100 / 100,
}
"""Columns that say how hard a question is -> the share of wrong answers that this comes to."""


@dataclass(frozen=True, kw_only=True)
class AnswersStage(SynthStage):
    """n chain-of-thought solutions a question (paper, section 2.4: 5, T 0.7, top-p 0.95, 2,048 tokens)."""

    n: int = setting(5, ge=1, help="solutions to each question, but for rows that have answers_wanted (source=dart)")
    n_by: str | None = setting(
        None, choices=tuple(FAIL_RATES), help="a column that says how hard a question is: then n right answers are "
        "wanted to the hardest and one to the easiest, and as many sampled as are expected to hold them"
    )  # fmt: skip
    n_allocation: str = setting(
        "prop2diff", choices=ALLOCATIONS, help="with n_by: right answers up to n by difficulty, or n to each"
    )
    n_most: int = setting(64, ge=1, help="with n_by: samples of a question at most")
    temperature: float = setting(0.7, ge=0)
    top_p: float = setting(0.95, gt=0, le=1)
    max_tokens: int = setting(2048, ge=1)

    def __post_init__(self) -> None:
        if self.n_by and self.n_most < self.n:
            raise ValueError(f"n_most={self.n_most} is below n={self.n}: raise stage.n_most")
        if (self.n > 1 or self.n_by) and self.temperature == 0:
            several = f"n_by={self.n_by}: several" if self.n_by else f"n={self.n}"
            raise ValueError(f"{several} answers with temperature=0 are all the same; raise stage.temperature")

    def spec(self, job: SynthJob) -> StageSpec:
        """Answer every question of the input."""
        domain = job.domain.create()
        source = StageInput(job=job, domain=domain, need=("question", *([self.n_by] if self.n_by else [])))
        inputs = (source.check(),)
        solver = ModelClient(job.model, job.engine)
        sampling = solver.sampling(n=self.n, temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)
        sampler = AnswerSampler(
            solver=solver, sampling=sampling, domain=domain, seed=job.seed, n_of=self.n_of if self.n_by else None
        )
        return StageSpec(
            schema=CANDIDATE,
            item_column="question_id",
            fingerprint_fields={**sampler.fingerprint_fields, **domain.answer_fields},
            items=lambda: source.items(sampler.key),
            items_from=source.items_from(sampler.key),
            process=lambda items, run: solver.run_flows(items, lambda item: sampler.request_flow(item, run)),
            close=solver.close,
            usages=(solver.usage,),
            traces=solver.traces,
            inputs=inputs,
            total=source.count(),
            unit="question",
            metrics=_metrics,
            then="synthesize stage=select input",
        )

    def n_of(self, row: dict[str, Any]) -> int:
        """How many solutions the difficulty of a row asks for."""
        assert self.n_by is not None
        fail_rate = min(1.0, max(0.0, FAIL_RATES[self.n_by](row[self.n_by])))
        return samples_wanted(fail_rate, allocation=self.n_allocation, right=self.n, most=self.n_most)


@dataclass(frozen=True, kw_only=True)
class AnswerSampler:
    """A solver, how it is sampled, and what it is asked."""

    solver: ModelClient
    sampling: Sampling
    domain: Domain
    seed: int
    n_of: Callable[[dict[str, Any]], int] | None = None
    """How many solutions a row gets that says nothing of it; none: as many as `sampling` has."""

    @cached_property
    def fingerprint_fields(self) -> dict[str, Any]:
        """All that a question's solutions depend on, beside the question. Their answers depend on the extractor too."""
        return {
            **self.solver.fingerprint_fields,
            "instruction": self.domain.instruction,
            **flatten(self.sampling, "sampling"),
        }

    def key(self, row: dict[str, Any]) -> str:
        """The key of one question's solutions."""
        own = {} if (wanted := self._wanted(row)) is None else {"n": wanted}
        text = row["question"]
        return row_id("answers", question=row["id"], text=text, **self.fingerprint_fields, seed=self.seed, **own)

    def _wanted(self, row: dict[str, Any]) -> int | None:
        """The number that is a question's own; none: that of the stage, which is one where all would be the same."""
        if self.sampling.temperature == 0:
            return None
        return row.get("answers_wanted") or (self.n_of(row) if self.n_of else None)

    def request_flow(self, item: WorkItem, run: str) -> RequestFlow:
        """Ask once for all n solutions."""
        row = item.payload
        sampling = replace(self.sampling, n=self._wanted(row) or self.sampling.n)
        request, result = yield from self.solver.ask(
            row, item.key, row["question"], sampling, instruction=self.domain.instruction
        )
        replies = self.solver.full_replies(request, result)
        question = fit_row(_asked(row), CANDIDATE)
        answers = [self.solver.final_answer(self.domain, reply) for reply in replies]
        reference = question.get("answer")
        correct = [None] * len(answers) if reference is None else check_answers(self.domain, answers, reference)
        rows = [
            {
                **question,
                **self.columns(item, run, result, index, completion),
                "response_answer": answer,
                "correct": right,
            }
            for index, (completion, answer, right) in enumerate(zip(replies, answers, correct, strict=True))
        ]
        return ItemResult(key=item.key, rows=rows)

    def columns(self, item: WorkItem, run: str, result: Result, index: int, completion: Completion) -> dict[str, Any]:
        """What one candidate adds to its question's columns, beside its answer."""
        question = item.payload
        return {
            "id": row_id("answer", answers=item.key, index=index),
            "run": run,
            "model": self.solver.identity,
            "seed": seed_of(item.key),
            "parents": [question["id"], *question["parents"]],
            "question_id": question["id"],
            "response": completion.text,
            "response_index": index,
            "response_model": self.solver.name,
            "response_prompt": self.domain.instruction,
            "response_seed": seed_of(item.key),
            "reasoning_end": self.solver.answer_start(completion.text),
            "response_finish_reason": completion.finish_reason,
            "response_tokens": completion.tokens,
            "response_prompt_tokens": result.prompt_tokens,
        }


def _asked(row: dict[str, Any]) -> dict[str, Any]:
    """The question's row; a file's own response, whose column the new ones take, is kept in `extra`."""
    own = {name: row[name] for name in ADDED if row.get(name) is not None}
    if not own or not str(row["run"]).startswith("source:"):
        return row
    left = {name: value for name, value in row.items() if name not in own}
    return {**left, "extra": with_extra(row.get("extra"), own)}


def _metrics(directory: Path) -> dict[str, float]:
    columns = ["response_answer", "correct", "response_tokens", "response_finish_reason"]
    total = answered = graded = right = tokens = cut = 0
    for row in read_rows(directory, columns=columns):
        total += 1
        answered += row["response_answer"] is not None
        graded += row["correct"] is not None
        right += bool(row["correct"])
        tokens += row["response_tokens"] or 0
        cut += row["response_finish_reason"] == "length"
    metrics = {"answered": answered / max(total, 1), "cut_off": cut / max(total, 1), "tokens": float(tokens)}
    return {**metrics, **({"correct": right / graded} if graded else {})}
