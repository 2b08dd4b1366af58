"""Answers: n solutions to each question, as one request, so that the prompt is prefilled once (paper, section 2.4).

Every solution is kept here, cut-off ones too, with its final answer by the domain's extractor; `select` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sq.core.config import flatten, setting
from sq.core.errors import SqError
from sq.core.ledger import Item, Reject, read_rows
from sq.core.rows import CANDIDATE, fit_row, row_id
from sq.domains.base import Domain
from sq.engine.base import Completion, Result, Sampling
from sq.synth.config import SynthJob, SynthStage
from sq.synth.figures import Report
from sq.synth.speaker import Speaker, Talk
from sq.synth.stage import Input, Outcome, Work, seed_of


@dataclass(frozen=True, kw_only=True)
class AnswersStage(SynthStage):
    """n chain-of-thought solutions a question (paper, section 2.4: 5, T 0.7, top-p 0.95, 2,048 tokens)."""

    n: int = setting(5, ge=1, help="solutions to each question")
    temperature: float = setting(0.7, ge=0)
    top_p: float = setting(0.95, gt=0, le=1)
    max_tokens: int = setting(2048, ge=1)

    def __post_init__(self) -> None:
        if self.n > 1 and self.temperature == 0:
            raise ValueError(f"n={self.n} answers with temperature=0 are all the same; raise stage.temperature")

    def work(self, job: SynthJob) -> Work:
        """Answer every question of the input."""
        domain = job.domain.create()
        source = Input(job=job, domain=domain, need=("question",))
        inputs = (source.check(),)
        solver = Speaker(job.model, job.engine)
        sampling = solver.sampling(n=self.n, temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)
        answering = Answering(solver=solver, sampling=sampling, domain=domain, seed=job.seed)
        return Work(
            schema=CANDIDATE,
            decides=answering.decides,
            items=lambda: source.items(answering.key),
            do=lambda items, run: solver.converse(items, lambda item: answering.talk(item, run)),
            close=solver.close,
            usages=(solver.usage,),
            inputs=inputs,
            unit="question",
            report=_report,
            then="synthesize.py stage=select input",
        )


@dataclass(frozen=True, kw_only=True)
class Answering:
    """A solver, how it is sampled, and what it is asked."""

    solver: Speaker
    sampling: Sampling
    domain: Domain
    seed: int

    @property
    def decides(self) -> dict[str, Any]:
        """All that a question's solutions depend on, beside the question."""
        return {**self.solver.decides, "instruction": self.domain.instruction, **flatten(self.sampling, "sampling")}

    def key(self, row: dict[str, Any]) -> str:
        """The key of one question's solutions."""
        decides = {**self.decides, "seed": self.seed}
        return row_id("answers", question=row["id"], text=row["question"], **decides)

    def talk(self, item: Item, run: str) -> Talk:
        """Ask once for all n solutions."""
        row = item.payload
        try:
            request = self.solver.request(item.key, row["question"], self.sampling, instruction=self.domain.instruction)
        except SqError as error:
            return Outcome(key=item.key, rejects=[Reject(row=row, reason="unusable", detail=str(error))])
        result: Result
        (result,) = yield [request]
        if result.error is not None:
            return Outcome(key=item.key, rejects=[Reject(row=row, reason="engine", detail=result.error)])
        replies = self.solver.whole(request, result)
        rows = [self.row(item, run, result, i, c) for i, c in enumerate(replies)]
        return Outcome(key=item.key, rows=rows)

    def row(self, item: Item, run: str, result: Result, index: int, completion: Completion) -> dict[str, Any]:
        """One candidate."""
        question = item.payload
        answer = self.domain.final_answer(self.solver.answer_in(completion.text))
        reference = question.get("answer")
        right = answer is not None and reference is not None and self.domain.check(answer, reference)
        return {
            **fit_row(question, CANDIDATE),
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
            "response_answer": answer,
            "reasoning_end": self.solver.answer_start(completion.text),
            "response_finish_reason": completion.finish_reason,
            "response_tokens": completion.tokens,
            "response_prompt_tokens": result.prompt_tokens,
            "correct": None if reference is None else right,
        }


def _report(directory: Path) -> Report:
    columns = ["response_answer", "correct", "response_tokens", "response_finish_reason"]
    total = answered = graded = right = tokens = cut = 0
    for row in read_rows(directory, columns=columns):
        total += 1
        answered += row["response_answer"] is not None
        graded += row["correct"] is not None
        right += bool(row["correct"])
        tokens += row["response_tokens"] or 0
        cut += row["response_finish_reason"] == "length"
    figures = {"answered": answered / max(total, 1), "cut_off": cut / max(total, 1), "tokens": float(tokens)}
    told = f"{figures['answered']:.1%} with a final answer, {figures['cut_off']:.1%} cut off"
    if graded:
        figures["correct"] = right / graded
        told += f", {right / graded:.1%} right where a reference tells"
    return Report(figures=figures, told=told)
