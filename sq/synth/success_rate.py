"""Pairs for QPO with no rewriting model: a solver's samples order the generator's own questions (ours).

Each question is solved k times; its agreement is the share of the most common final answer. Within a window of
questions each is paired with the one of most words in common. `source=success_rate`: where agreement differs by
`margin` the more agreed upon is chosen (it is likelier solvable), where both are agreed upon the one that takes longer
solutions is (it is harder). `source=solver` chooses by solvable × wanted difficulty (question_value.py).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sq.core.errors import SqError
from sq.core.ledger import Reject, WorkItem
from sq.core.rows import PAIR, row_id
from sq.domains.base import Candidates, Domain
from sq.engine.base import Completion, Result
from sq.engine.failures import rejected
from sq.synth.config import SynthJob
from sq.synth.filters.words import words_of
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.pairs import PairSource, pair_metrics
from sq.synth.question_value import QuestionJudge, closeness, is_judged
from sq.synth.stage import ItemResult, StageInput, StageSpec, seed_of

if TYPE_CHECKING:
    from sq.synth.rewrite import RewriteStage

AGREED = 0.75
"""Agreement from which on a question counts as one that the solver can solve."""
HARDER = 1.2
"""How many times as long the harder one's solutions are."""
JUDGED_TOGETHER = 8
"""Windows that a judge of its own is given at a time."""


def pairs_by_success(job: SynthJob, stage: RewriteStage) -> StageSpec:
    """The spec of `source=success_rate` and `source=solver`: an item is a window of questions."""
    domain = job.domain.create()
    source = StageInput(job=job, domain=domain, need=("question",))
    inputs, count = (source.check(),), source.count()
    solver = ModelClient(job.model, job.engine)
    judge = QuestionJudge.of(job, stage, solver) if stage.source is PairSource.SOLVER else None
    fixed = solver.fingerprint_fields | (judge.fingerprint_fields if judge else {})
    pairing = _Pairing(stage=stage, solver=solver, domain=domain, judge=judge)
    return StageSpec(
        schema=PAIR,
        fingerprint_fields={**fixed, **domain.answer_fields},
        items=lambda: source.grouped(lambda rows: _windows(rows, stage, fixed | {"seed": job.seed})),
        process=pairing.results,
        close=pairing.close,
        usages=(solver.usage,) if judge is None or judge.client is solver else (solver.usage, judge.client.usage),
        traces=solver.traces,
        inputs=inputs,
        total=count and -(-count // stage.window),
        independent=False,
        unit="window",
        metrics=lambda directory: pair_metrics(directory, domain),
        then="train stage=qpo data.input",
    )


def _windows(rows: Iterator[dict[str, Any]], stage: RewriteStage, same: Mapping[str, Any]) -> Iterator[WorkItem]:
    while window := list(itertools.islice(rows, stage.window)):
        texts = [[row["id"], row["question"]] for row in window]
        yield WorkItem(row_id("window", questions=texts, **same), window)


@dataclass(frozen=True, kw_only=True)
class _Pairing:
    """Who solves, who judges, and how a window becomes pairs."""

    stage: RewriteStage
    solver: ModelClient
    domain: Domain
    judge: QuestionJudge | None

    def close(self) -> None:
        self.solver.close()
        if self.judge is not None:
            self.judge.client.close()

    def results(self, items: Iterator[WorkItem], run: str) -> Iterator[ItemResult]:
        """Pairs and rejects of each window; a judge of its own looks at some windows before the solver does."""
        judge = self.judge
        if judge is None or judge.client is self.solver:
            yield from self.solver.run_flows(items, lambda item: self._of_window(item, run))
            return
        while block := list(itertools.islice(items, JUDGED_TOGETHER)):
            judged = list(judge.client.run_flows(iter(block), lambda item: judge.flow(item, item.payload)))
            yield from (result for result in judged if result.failure is not None)
            left = (WorkItem(r.key, (r.rows, r.rejects)) for r in judged if r.failure is None)
            yield from self.solver.run_flows(left, lambda item: self._solved(item, *item.payload, run=run))

    def _of_window(self, item: WorkItem, run: str) -> RequestFlow:
        """A window whose judge, if there is one, is the solver too."""
        rows, rejects = item.payload, []
        if self.judge is not None:
            judged = yield from self.judge.flow(item, rows)
            rows, rejects = judged.rows, judged.rejects
        return (yield from self._solved(item, rows, rejects, run=run))

    def _solved(
        self, item: WorkItem, rows: Sequence[dict[str, Any]], rejects: Sequence[Reject], *, run: str
    ) -> RequestFlow:
        """Solve every question of the window k times, then pair them. What is judged unsolvable is not solved."""
        stage, solver, rejects = self.stage, self.solver, list(rejects)
        sampling = solver.sampling(
            n=stage.k, temperature=stage.temperature or 0.7, top_p=stage.top_p, max_tokens=stage.max_tokens
        )
        requests, asked, measured = [], [], []
        for row in rows:
            if stage.source is PairSource.SOLVER and is_judged(row, solvable=False):
                measured.append(_Measured(row=row, words=_words(row)))
                continue
            key = row_id("success", question=row["id"], window=item.key)
            try:
                requests.append(solver.request(key, row["question"], sampling, instruction=self.domain.instruction))
                asked.append(row)
            except SqError as error:
                rejects.append(Reject(row=row, reason="unusable", detail=str(error)))
        results: list[Result] = yield requests
        for row, request, result in zip(asked, requests, results, strict=True):
            if result.error is not None:
                rejects.append(rejected(row, result))
            else:
                measured.append(self._measured(row, solver.full_replies(request, result)))
        pairs, left = _paired(measured, stage)
        rejects += [Reject(row=one.row, reason="no_partner", detail=one.summary) for one in left]
        return ItemResult(key=item.key, rows=[self._pair(*pair, item, run) for pair in pairs], rejects=rejects)

    def _measured(self, row: dict[str, Any], solutions: Sequence[Completion]) -> _Measured:
        """How far the solutions agree, by the domain's vote, and how long they are; what the question is worth."""
        texts = [(self.solver.final_answer(self.domain, c), c.text) for c in solutions]
        answered = [(answer, text) for answer, text in texts if answer is not None]
        answers, responses = zip(*answered, strict=True) if answered else ((), ())
        candidates = Candidates(question=row, answers=answers, responses=responses)
        keys = self.domain.vote(candidates).keys if answered else ()
        agreement = max(Counter(keys).values(), default=0) / len(solutions)
        return _Measured(
            row=row, words=_words(row), agreement=agreement,
            length=sum(c.tokens for c in solutions) / len(solutions),
            solvable=1.0 if is_judged(row, solvable=True) else agreement,
            close=closeness(1 - agreement, self.stage.wanted),
        )  # fmt: skip

    def _pair(self, better: _Measured, worse: _Measured, direction: str, item: WorkItem, run: str) -> dict[str, Any]:
        chosen, other = better.row, worse.row
        by_value = self.stage.source is PairSource.SOLVER
        scores = (better.value, worse.value) if by_value else (better.agreement, worse.agreement)
        judged = {k: chosen.get(k) for k in ("judge_model", "judge_reply")} if by_value else {}
        return {
            "id": row_id("pair", chosen=chosen["id"], rejected=other["id"], window=item.key),
            "run": run,
            "model": self.solver.identity,
            "seed": seed_of(item.key),
            "parents": [chosen["id"], other["id"]],
            "chosen": chosen["question"],
            "rejected": other["question"],
            "direction": direction,
            "question_id": other["id"],
            "pair_source": self.stage.source.value,
            "domain": chosen.get("domain"),
            "generator": chosen.get("generator"),
            "prefix": chosen.get("prefix"),
            "chosen_solvable": chosen.get("solvable") if by_value else None,
            "chosen_score": scores[0],
            "rejected_score": scores[1],
            **judged,
        }


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A question and what its solutions say of it; of one that is judged unsolvable nothing."""

    row: dict[str, Any]
    words: frozenset[str]
    agreement: float = 0.0
    length: float = 0.0
    solvable: float = 0.0
    """1 by a judge's word, without one the agreement."""
    close: float = 0.0
    """How close its fail rate is to the wanted one."""

    @property
    def value(self) -> float:
        """What source=solver ranks by."""
        return self.solvable * self.close

    @property
    def summary(self) -> str:
        """Why it has no partner."""
        return f"agreement {self.agreement:.2f}"


def _words(row: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(words_of(row["question"]))


def _paired(
    measured: Sequence[_Measured], stage: RewriteStage
) -> tuple[list[tuple[_Measured, _Measured, str]], list[_Measured]]:
    """Pairs, the better one first, with the direction; nearest topic first, each question in one at most. And those
    without a partner."""
    own = stage.source is PairSource.SOLVER
    numbered = enumerate(measured)
    near = sorted((-_likeness(a, b, own), i, j) for (i, a), (j, b) in itertools.combinations(numbered, 2))
    taken: set[int] = set()
    pairs = []
    for _, i, j in near:
        one, other = measured[i], measured[j]
        if i in taken or j in taken or one.words == other.words:
            continue
        ordered = (_by_value if own else _by_agreement)(one, other, stage.margin)
        if ordered is not None:
            taken |= {i, j}
            pairs.append(ordered)
    return pairs, [one for i, one in enumerate(measured) if i not in taken]


def _likeness(one: _Measured, other: _Measured, of_length: bool) -> float:
    """The share of words in common; where length counts, less where one question is longer."""
    alike = len(one.words & other.words) / max(len(one.words | other.words), 1)
    sizes = [len(m.row["question"]) for m in (one, other)] if of_length else [1, 1]
    return alike * min(sizes) / max(*sizes, 1)


def _by_agreement(one: _Measured, other: _Measured, margin: float) -> tuple[_Measured, _Measured, str] | None:
    """The better one first; None where neither is clearly better."""
    high, low = sorted((one, other), key=lambda m: -m.agreement)
    if high.agreement - low.agreement >= margin:
        return high, low, "solvability"
    longer, shorter = sorted((one, other), key=lambda m: -m.length)
    if low.agreement >= AGREED and longer.length >= HARDER * shorter.length:
        return longer, shorter, "difficulty"
    return None


def _by_value(one: _Measured, other: _Measured, margin: float) -> tuple[_Measured, _Measured, str] | None:
    """The one of more value first, and by which of its two factors it differs more."""
    high, low = sorted((one, other), key=lambda m: -m.value)
    if high.value - low.value < margin:
        return None
    by_solvable = high.solvable - low.solvable >= high.close - low.close
    return high, low, "solvability" if by_solvable else "difficulty"
