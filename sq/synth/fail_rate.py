"""Difficulty labels: the share of a solver's n solutions that are wrong, with its interval (paper, section 2.3).

The paper gives every problem the same n. Here sampling may stop as soon as the interval is narrow enough, which is soon
for problems that always or never fail; the summary says what that saved. The interval then is a confidence sequence,
which holds at whatever look sampling stops; Wilson's, which does not, where all n are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sq.core.config import setting
from sq.core.intervals import confidence_sequence, wilson
from sq.core.ledger import WorkItem, read_rows
from sq.core.rows import LABEL, fit_row, row_id
from sq.domains.base import Domain, check_answers
from sq.engine.base import Completion
from sq.synth.config import SynthJob, SynthStage
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.stage import ItemResult, StageInput, StageSpec, seed_of


@dataclass(frozen=True, kw_only=True)
class FailRateStage(SynthStage):
    """How often a solver fails on problems whose answers are known. The paper does not say its n."""

    n: int = setting(16, ge=1, help="most solutions to a problem")
    step: int = setting(4, ge=1, help="solutions asked for at a time, where width may end sampling early")
    width: float = setting(0.0, ge=0, le=1, help="stop once the interval is no wider than this; 0: always all n")
    level: float = setting(0.95, gt=0, lt=1, help="of the confidence interval")
    keep_solutions: bool = setting(True, help="keep every solution's text, for stage=reward to train on")
    temperature: float = setting(0.7, gt=0)
    top_p: float = setting(0.95, gt=0, le=1)
    max_tokens: int = setting(2048, ge=1)

    def spec(self, job: SynthJob) -> StageSpec:
        """Label every problem of the input (without one: of the domain)."""
        domain = job.domain.create()
        source = StageInput(job=job, domain=domain, need=("question", "answer"))
        inputs = (source.check(own_problems=True),)
        solver = ModelClient(job.model, job.engine)
        labeller = FailRateLabeller(stage=self, solver=solver, domain=domain, seed=job.seed)
        return StageSpec(
            schema=LABEL,
            fingerprint_fields={**solver.fingerprint_fields, **domain.answer_fields},
            items=lambda: source.items(labeller.key),
            items_from=source.items_from(labeller.key),
            process=lambda items, run: solver.run_flows(items, lambda item: labeller.request_flow(item, run)),
            close=solver.close,
            usages=(solver.usage,),
            traces=solver.traces,
            inputs=inputs,
            total=source.count(),
            unit="problem",
            metrics=lambda directory: _metrics(directory, self.n),
            then="train stage=difficulty data.input",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class GradedSolution:
    """A solution with its final answer and whether that is right: extracted and checked once."""

    completion: Completion
    answer: str | None
    right: bool


@dataclass(frozen=True, kw_only=True)
class FailRateLabeller:
    """A solver and how its solutions are counted."""

    stage: FailRateStage
    solver: ModelClient
    domain: Domain
    seed: int

    def key(self, row: dict[str, Any]) -> str:
        """The key of one problem's label."""
        sampling = [self.stage.temperature, self.stage.top_p, self.stage.max_tokens, self.domain.instruction]
        fingerprint_fields = {**self.solver.fingerprint_fields, "sampling": sampling, "seed": self.seed}
        return row_id("label", question=row["id"], text=row["question"], answer=row["answer"], **fingerprint_fields)

    def request_flow(self, item: WorkItem, run: str) -> RequestFlow:
        """Sample in steps until n, or until the interval is narrow enough."""
        row, stage = item.payload, self.stage
        done: list[GradedSolution] = []
        prompt_tokens, stopped = 0, "full"
        while len(done) < stage.n:
            count = min(stage.step if stage.width else stage.n, stage.n - len(done))
            key = row_id("solutions", label=item.key, first=len(done))
            sampling = self.solver.sampling(
                n=count, temperature=stage.temperature, top_p=stage.top_p, max_tokens=stage.max_tokens
            )
            request, result = yield from self.solver.ask(
                row, key, row["question"], sampling, instruction=self.domain.instruction
            )
            done += self._graded(row, self.solver.full_replies(request, result))
            prompt_tokens += result.prompt_tokens
            low, high = self._interval(done)
            if stage.width and len(done) < stage.n and high - low <= stage.width:
                stopped = "interval"
                break
        return ItemResult(key=item.key, rows=[self._row(item, run, done, prompt_tokens, stopped)])

    def _graded(self, row: dict[str, Any], completions: Sequence[Completion]) -> list[GradedSolution]:
        answers = [self.solver.final_answer(self.domain, completion) for completion in completions]
        checked = zip(completions, answers, check_answers(self.domain, answers, row["answer"]), strict=True)
        return [GradedSolution(completion=c, answer=answer, right=right) for c, answer, right in checked]

    def _interval(self, done: list[GradedSolution]) -> tuple[float, float]:
        interval = confidence_sequence if self.stage.width else wilson
        return interval(_wrong(done), len(done), self.stage.level)

    def _row(
        self, item: WorkItem, run: str, done: list[GradedSolution], prompt_tokens: int, stopped: str
    ) -> dict[str, Any]:
        problem, k, n = item.payload, _wrong(done), len(done)
        low, high = self._interval(done)
        return {
            **fit_row(problem, LABEL),
            "id": row_id("fail_rate", label=item.key),
            "run": run,
            "model": self.solver.identity,
            "seed": seed_of(item.key),
            "parents": [problem["id"], *problem["parents"]],
            "k": k,
            "n": n,
            "fail_rate": k / n,
            "ci_low": low,
            "ci_high": high,
            "ci_level": self.stage.level,
            "solver_model": self.solver.name,
            "solver_prompt": self.domain.instruction,
            "solver_answers": [solution.answer or "" for solution in done],
            "solver_solutions": [solution.completion.text for solution in done] if self.stage.keep_solutions else None,
            "solver_right": [solution.right for solution in done],
            "solver_tokens": sum(solution.completion.tokens for solution in done),
            "solver_prompt_tokens": prompt_tokens,
            "stopped": stopped,
        }


def _wrong(done: list[GradedSolution]) -> int:
    return sum(not solution.right for solution in done)


def _metrics(directory: Path, most: int) -> dict[str, float]:
    labels = tokens = solutions = 0
    saved = wrong = width = 0.0
    for row in read_rows(directory, columns=["k", "n", "ci_low", "ci_high", "solver_tokens"]):
        labels += 1
        tokens += row["solver_tokens"]
        solutions += row["n"]
        wrong += row["k"] / row["n"]
        width += row["ci_high"] - row["ci_low"]
        saved += (most - row["n"]) * row["solver_tokens"] / row["n"]
    count = max(labels, 1)
    return {
        "fail_rate": wrong / count,
        "interval_width": width / count,
        "solutions": float(solutions),
        "tokens": float(tokens),
        "tokens_saved": saved,
        "tokens_saved_share": saved / max(saved + tokens, 1.0),
    }
