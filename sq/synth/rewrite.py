"""Preference pairs for QPO: each sampled question improved in one direction (paper, section 2.2).

The direction, solvability or difficulty, is drawn for each question by the seed. What the optimiser returns counts only
if it can be read and is a new question; a judge may look at it a second time. `source=success_rate` and `source=solver`
need no optimiser (success_rate.py).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sq.core.config import flatten, setting
from sq.core.errors import ConfigError
from sq.core.ledger import Reject, WorkItem
from sq.core.prompts import Prompt
from sq.core.rows import PAIR, fit_row, row_id, text_problem
from sq.engine.base import Completion
from sq.engine.config import EngineConfig
from sq.models.load import ModelConfig
from sq.synth.config import AskedModel, SynthJob, SynthStage
from sq.synth.filters.solvability import judge_prompt, load_prompt
from sq.synth.filters.words import words_of
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.pairs import PairSource, pair_metrics
from sq.synth.question_value import WANTED
from sq.synth.stage import ItemResult, StageInput, StageSpec, seed_of
from sq.synth.success_rate import pairs_by_success

__all__ = ["PairSource", "RewriteStage", "Rewriter", "pair_metrics"]

JUDGED_TOGETHER = 512
"""Pairs that a judge of its own is given at a time."""
JUDGE = ("stage.judge_model", "stage.judge_engine")


@dataclass(frozen=True, kw_only=True)
class RewriteStage(SynthStage):
    """Pairs for QPO (paper, section 2.2: 10K pairs, by GPT-4o-mini; saturates near 20K)."""

    source: PairSource = setting(PairSource.REWRITE, help="where the better question comes from")
    solvability: float = setting(0.5, ge=0, le=1, help="share of questions made solvable; the others: harder")
    solvability_prompt: str = setting("improve_solvability", help="a YAML of conf/prompt/")
    difficulty_prompt: str = setting("raise_difficulty", help="a YAML of conf/prompt/")
    judge_prompt: str | None = setting(
        None, help="judge_solvability: rewrite keeps what is judged solvable, solver ranks by it"
    )
    judge_model: ModelConfig | None = setting(None, help="that judge's name and path; default: model=")
    judge_engine: EngineConfig | None = setting(
        None,
        help="what serves it, as in +engine@stage.judge_engine=openai; default: like engine=, without its lora, ...",
    )
    temperature: float = setting(0.7, ge=0)
    top_p: float = setting(0.95, gt=0, le=1)
    max_tokens: int = setting(2048, ge=1)
    max_chars: int = setting(2000, ge=1, help="a longer rewrite is rejected")
    max_growth: float = setting(4.0, gt=1, help="a rewrite so many times as long as its question is rejected")
    k: int = setting(8, ge=2, help="success_rate, solver: solutions to each question")
    window: int = setting(64, ge=2, help="success_rate, solver: questions among which partners are sought")
    margin: float = setting(0.25, gt=0, le=1, help="least difference: success_rate in agreement, solver in value")
    wanted: float = setting(WANTED, ge=0, le=1, help="solver: the fail rate that a question is to have")

    def engines(self, job: SynthJob) -> list[AskedModel]:
        return [(job.model, job.engine), *([(self.judge_model, self.judge_engine)] if self.judge_engine else [])]

    def spec(self, job: SynthJob) -> StageSpec:
        """Make pairs from the questions of the input."""
        if self.source is not PairSource.REWRITE:
            return pairs_by_success(job, self)
        domain = job.domain.create()
        source = StageInput(job=job, domain=domain, need=("question",))
        inputs = (source.check(),)
        optimiser = ModelClient(job.model, job.engine)
        judge = self.judge(job, optimiser)
        rewriter = Rewriter(self, optimiser, judge, job.seed)
        return StageSpec(
            schema=PAIR,
            fingerprint_fields=rewriter.fingerprint_fields,
            items=lambda: source.items(rewriter.key),
            items_from=source.items_from(rewriter.key),
            process=rewriter.results,
            close=lambda: _close(optimiser, judge),
            usages=(optimiser.usage,) if judge is optimiser else (optimiser.usage, judge.usage),
            traces=optimiser.traces,
            inputs=inputs,
            total=source.count(),
            ignored_fields=frozenset(name for name in flatten(self, "stage") if name.startswith(JUDGE)),
            unit="question",
            metrics=lambda directory: pair_metrics(directory, domain),
            then="train stage=qpo data.input",
        )

    def judge(self, job: SynthJob, optimiser: ModelClient) -> ModelClient:
        """Who takes the second look: the optimiser too, unless a model or an engine of its own is given."""
        if self.judge_model is None and self.judge_engine is None:
            return optimiser
        if self.judge_prompt is None:
            raise ConfigError("stage.judge_model and stage.judge_engine are for stage.judge_prompt=judge_solvability")
        model = self.judge_model or job.model
        engine = self.judge_engine or job.engine.for_another(model)
        engine.prepare()
        return ModelClient(model, engine)


class Rewriter:
    """An optimiser, a judge, their prompts, and what counts as a rewrite."""

    def __init__(self, stage: RewriteStage, optimiser: ModelClient, judge: ModelClient, seed: int) -> None:
        self._stage, self._optimiser, self._seed = stage, optimiser, seed
        self._judge = judge
        self._prompts: dict[str, Prompt] = {
            "solvability": load_prompt(stage.solvability_prompt),
            "difficulty": load_prompt(stage.difficulty_prompt),
        }
        self._judge_prompt = judge_prompt(stage.judge_prompt) if stage.judge_prompt else None
        self._sampling = optimiser.sampling(
            temperature=stage.temperature, top_p=stage.top_p, max_tokens=stage.max_tokens
        )
        self._greedy = judge.sampling(temperature=0.0, max_tokens=stage.max_tokens)

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        """The optimiser and its prompts."""
        prompts = {f"prompt.{direction}": prompt.digest for direction, prompt in self._prompts.items()}
        judge = {"prompt.judge": self._judge_prompt.digest} if self._judge_prompt else {}
        if self._judge is not self._optimiser:
            judge |= {f"judge.{name}": value for name, value in self._judge.fingerprint_fields.items()}
        return {**self._optimiser.fingerprint_fields, **prompts, **judge}

    def results(self, items: Iterator[WorkItem], run: str) -> Iterator[ItemResult]:
        """Pairs and rejects as they come; a judge of its own looks at some hundred pairs at a time."""
        results = self._optimiser.run_flows(items, lambda item: self.request_flow(item, run))
        if self._judge_prompt is None or self._judge is self._optimiser:
            yield from results
            return
        while block := list(itertools.islice(results, JUDGED_TOGETHER)):
            yield from (result for result in block if not result.rows)
            pairs = (WorkItem(result.key, result.rows[0]) for result in block if result.rows)
            yield from self._judge.run_flows(pairs, lambda item: self._second_look(item, item.payload))

    def direction(self, row: dict[str, Any]) -> str:
        """Drawn by the seed and the question's id, so that it is the same in any order."""
        drawn = random.Random(f"{self._seed}:direction:{row['id']}").random()
        return "solvability" if drawn < self._stage.solvability else "difficulty"

    def key(self, row: dict[str, Any]) -> str:
        """The key of one question's rewrite."""
        fingerprint_fields = {**self.fingerprint_fields, "sampling": flatten(self._sampling), "seed": self._seed}
        return row_id(
            "rewrite", question=row["id"], text=row["question"], direction=self.direction(row), **fingerprint_fields
        )

    def request_flow(self, item: WorkItem, run: str) -> RequestFlow:
        """Ask for the rewrite; then, where wanted, for a judge's word on it."""
        question = item.payload
        direction = self.direction(question)
        prompt = self._prompts[direction]
        pair = self._pair(item, run, direction, prompt)
        _, result = yield from self._optimiser.ask(pair, item.key, question["question"], self._sampling, prompt=prompt)
        completion: Completion = result.completions[0]
        pair |= {
            "rewrite_reply": completion.text,
            "rewrite_finish_reason": completion.finish_reason,
            "rewrite_tokens": completion.tokens,
            "rewrite_prompt_tokens": result.prompt_tokens,
        }
        if completion.finish_reason == "length":
            return _rejected(item, pair, "cut_off", f"after {completion.tokens} tokens")
        parsed = prompt.parse(completion.text)
        if not parsed.ok:
            return _rejected(item, pair, "unparsed", parsed.reason or "")
        pair["chosen"] = str(parsed.value).strip()
        if problem := self._problem(pair["chosen"], pair["rejected"]):
            return _rejected(item, pair, *problem)
        if self._judge_prompt is not None and self._judge is self._optimiser:
            return (yield from self._second_look(item, pair))
        return ItemResult(key=item.key, rows=[pair])

    def _second_look(self, item: WorkItem, pair: dict[str, Any]) -> RequestFlow:
        """Ask the judge about the chosen question; the pair stays only where it is judged solvable."""
        assert self._judge_prompt is not None
        key = row_id("second_look", rewrite=item.key)
        _, result = yield from self._judge.ask(pair, key, pair["chosen"], self._greedy, prompt=self._judge_prompt)
        reply: Completion = result.completions[0]
        answer = self._judge_prompt.yes_no(reply.text, reply.finish_reason)
        pair["judge_model"], pair["judge_reply"] = self._judge.identity, reply.text
        pair["chosen_solvable"] = answer.value
        if answer.reject_reason:
            return _rejected(item, pair, answer.reject_reason, reply.text[-200:])
        return ItemResult(key=item.key, rows=[pair])

    def _pair(self, item: WorkItem, run: str, direction: str, prompt: Prompt) -> dict[str, Any]:
        question = item.payload
        inherited = fit_row({k: v for k, v in question.items() if k in ("domain", "generator", "prefix")}, PAIR)
        return {
            **inherited,
            "id": item.key,
            "run": run,
            "model": self._optimiser.identity,
            "seed": seed_of(item.key),
            "parents": [question["id"], *question["parents"]],
            "rejected": question["question"],
            "direction": direction,
            "question_id": question["id"],
            "pair_source": PairSource.REWRITE.value,
            "rewrite_model": self._optimiser.name,
            "rewrite_prompt": prompt.digest,
        }

    def _problem(self, chosen: str, rejected: str) -> tuple[str, str] | None:
        """Why a rewrite is none: the reason and what is wrong."""
        if problem := text_problem(chosen):
            return "empty", f"the rewrite {problem}"
        if words_of(chosen) == words_of(rejected):
            return "unchanged", chosen[:200]
        if len(chosen) > min(self._stage.max_chars, max(200, self._stage.max_growth * len(rejected))):
            return "over_long", f"{len(chosen)} characters, its question has {len(rejected)}"
        return None


def _close(*clients: ModelClient) -> None:
    for client in clients:
        client.close()


def _rejected(item: WorkItem, pair: dict[str, Any], reason: str, detail: str) -> ItemResult:
    return ItemResult(key=item.key, rejects=[Reject(row=pair, reason=reason, detail=detail)])
