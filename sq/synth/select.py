"""The solutions of a question that stay: those without a final answer go, of the others the best (paper, section 2.4).

The paper takes the reward model's favourite. Majority and reward-weighted votes and the check against a reference need
no reward model, or use it differently; `keep` lets more than one stay. No candidate is lost: those kept are rows, the
others are rejects with their scores, votes and ranks.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import starmap
from pathlib import Path
from typing import Any, TypeAlias

from sq.core.config import setting
from sq.core.errors import ConfigError
from sq.core.ledger import Reject, WorkItem, read_manifest, read_rejects, read_rows
from sq.core.rows import CANDIDATE, EXAMPLE, fit_row, row_id
from sq.core.thinking import UNFINISHED, answer_start
from sq.data.sources import config_of_stage
from sq.domains.base import AnswerGroups, Candidates, Domain
from sq.engine.base import ScoreRequest, ScoreResult
from sq.engine.failures import rejected
from sq.synth.config import AskedModel, SynthJob, SynthStage
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.stage import ItemResult, StageInput, StageSpec, no_traces

Row: TypeAlias = dict[str, Any]
TOGETHER = 64
"""Questions whose candidates are compared in one go, where no model is asked."""


class SelectionMethod(Enum):
    """What makes a candidate the best."""

    REWARD = "reward"
    """The highest score of the reward model."""
    MAJORITY = "majority"
    """The answer that most candidates have."""
    WEIGHTED = "weighted"
    """The same, each vote weighed by the softmax of the candidates' rewards."""
    CHECK = "check"
    """Being right by the reference; where there is none, the majority."""


class Keep(Enum):
    """Which candidates of a question stay, in the method's order."""

    BEST = "best"
    TOP_K = "top_k"
    """The first `top_k`."""
    AGREEING = "agreeing"
    """All whose final answer is that of the best."""
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class SelectStage(SynthStage):
    """Best of n (paper, section 2.4: InternLM2-7B-Reward)."""

    method: SelectionMethod = setting(SelectionMethod.REWARD, help="what makes a candidate the best")
    keep: Keep = setting(Keep.BEST, help="which candidates of a question stay, each a row")
    top_k: int = setting(2, ge=1, help="candidates of a question that stay, where keep=top_k")
    min_reward: float | None = setting(None, help="lowest reward of a candidate that stays")
    min_agreement: float = setting(
        0.0, ge=0, le=1, help="least share of a question's candidates that have its commonest answer"
    )
    judge_answers: bool = setting(
        False, help="the answer in the judge's reply (column judge_reply) must be the best one's, or the question goes"
    )
    keep_cut_off: bool = setting(False, help="let candidates that ran into the token limit stand, if they answer")

    def __post_init__(self) -> None:
        if self.min_reward is not None and not self.rewarded:
            raise ValueError(
                f"min_reward={self.min_reward} needs rewards, which method={self.method.value} does not ask for; set "
                "stage.method=reward or weighted, or leave stage.min_reward out"
            )

    @property
    def rewarded(self) -> bool:
        """Whether a reward model is asked."""
        return self.method in (SelectionMethod.REWARD, SelectionMethod.WEIGHTED)

    @property
    def votes(self) -> bool:
        """Whether it matters which answers are the same."""
        return self.method is not SelectionMethod.REWARD or self.keep is Keep.AGREEING or self.min_agreement > 0

    def engines(self, job: SynthJob) -> list[AskedModel]:
        return [(job.model, job.engine)] if self.rewarded else []

    def spec(self, job: SynthJob) -> StageSpec:
        """Choose among the candidates of each question."""
        domain = job.domain.create()
        source = StageInput(job=job, domain=domain, need=("question", "response"), any_text=("response",))
        inputs = (source.check(),)
        if self.rewarded and not job.engine.can_score(job.model):
            raise ConfigError(
                f"stage.method={self.method.value} needs a reward model, and model={job.model.name} is none for this "
                "engine: give model={name: reward, path: DIR} with engine=hf or vllm, or stage.method=majority"
            )
        reward_model = ModelClient(job.model, job.engine) if self.rewarded else None
        answers = config_of_stage(job.source)
        extracted = answers.get("stage.name") == "answers" and answers.get("extractor") == domain.extractor
        selector = Selector(stage=self, domain=domain, seed=job.seed, reward_model=reward_model, extracted=extracted)
        return StageSpec(
            schema=EXAMPLE,
            fingerprint_fields={**domain.answer_fields, **(reward_model.scoring_fields if reward_model else {})},
            items=lambda: source.grouped(lambda rows: starmap(_item, source.groups(rows, _question))),
            process=selector.results,
            close=reward_model.close if reward_model else lambda: None,
            usages=(reward_model.usage,) if reward_model else (),
            traces=reward_model.traces if reward_model else no_traces,
            inputs=inputs,
            total=source.count(groups=True),
            independent=False,
            unit="question",
            metrics=lambda directory: _metrics(directory, domain),
            then="train stage=sft data.input",
        )


@dataclass(frozen=True, kw_only=True)
class Selector:
    """The choice among one question's candidates."""

    stage: SelectStage
    domain: Domain
    seed: int
    reward_model: ModelClient | None
    extracted: bool
    """Whether the input's final answers are by the same extractor, and need not be extracted again."""

    def results(self, items: Iterator[WorkItem], run: str) -> Iterator[ItemResult]:
        """The chosen and the others, question by question."""
        if self.reward_model is not None:
            yield from self.reward_model.score(items, self._rewarded)
            return
        while chunk := list(itertools.islice(items, TOGETHER)):
            split = self._split([item.payload for item in chunk])
            groups = self._vote([standing for standing, _ in split])
            for item, (standing, rejects), its in zip(chunk, split, groups, strict=True):
                yield self._choose(item.key, standing, rejects, its)

    def _rewarded(self, item: WorkItem) -> RequestFlow:
        """Score all candidates that have an answer, then choose."""
        ((standing, rejects),) = self._split([item.payload])
        scores: list[ScoreResult] = yield [
            ScoreRequest(key=row_id("score", candidate=row["id"], of=item.key), messages=self._messages(row))
            for row in standing
        ]
        scored = []
        for row, score in zip(standing, scores, strict=True):
            if score.score is None:
                rejects.append(rejected(row, score))
            else:
                row |= {
                    "reward": float(score.score),
                    "reward_model": self.reward_model.identity if self.reward_model else None,
                }
                scored.append(row)
        return self._choose(item.key, scored, rejects, self._vote([scored])[0])

    def _messages(self, row: dict[str, Any]) -> tuple[dict[str, str], ...]:
        return ({"role": "user", "content": self._query(row)}, {"role": "assistant", "content": row["response"]})

    def _query(self, row: dict[str, Any]) -> str:
        question = str(row["question"]).strip()
        return f"{question}\n{self.domain.instruction}" if self.domain.instruction else question

    def _split(self, questions: list[list[Row]]) -> list[tuple[list[Row], list[Reject]]]:
        """Of each question the candidates with a final answer, and rejects for the others."""
        split: list[tuple[list[Row], list[Reject]]] = []
        graded = []
        for candidates in questions:
            standing, rejects = [], []
            for row in (fit_row(candidate, CANDIDATE) for candidate in candidates):
                unfit = self._extract(row)
                if unfit is None:
                    standing.append(row)
                else:
                    rejects.append(Reject(row, *unfit))
                if row.get("answer") is not None and (unfit is None or unfit[0] != "unfinished_reasoning"):
                    graded.append(row)
            split.append((standing, rejects))
        answered = [row for row in graded if row["response_answer"] is not None]
        right = iter(self.domain.check_many([(row["response_answer"], row["answer"]) for row in answered]))
        for row in graded:
            row["correct"] = row["response_answer"] is not None and next(right)
        return split

    def _extract(self, row: Row) -> tuple[str, str] | None:
        """Extract a candidate's final answer; reason and detail where it cannot stand."""
        given = row.get("reasoning_end")
        start = answer_start(row["response"]) if given is None else given
        cut_off = row.get("response_finish_reason") == "length"
        if start == UNFINISHED:
            return "unfinished_reasoning", f"its reasoning never ended, in {row.get('response_tokens')} tokens"
        if not (self.extracted and start == given):
            row["response_answer"] = self.domain.final_answer(row["response"][start or 0 :], cut_off=cut_off)
        if cut_off and not self.stage.keep_cut_off:
            return "cut_off", f"after {row.get('response_tokens')} tokens"
        return ("no_answer", row["response"][-200:]) if row["response_answer"] is None else None

    def _vote(self, questions: list[list[Row]]) -> list[dict[str, str]]:
        """Count for each candidate how many say the same, by the domain's vote; each candidate's group."""
        if not self.stage.votes:
            return [{} for _ in questions]
        votes = iter(self.domain.vote_many([_texts(rows) for rows in questions if rows]))
        groups: list[dict[str, str]] = []
        for rows in questions:
            vote = next(votes) if rows else AnswerGroups(keys=())
            counts = Counter(vote.keys)
            for row, key in zip(rows, vote.keys, strict=True):
                row |= {"votes": counts[key], "agreement": vote.agreement}
            groups.append({row["id"]: key for row, key in zip(rows, vote.keys, strict=True)})
        return groups

    def _choose(self, key: str, standing: list[Row], rejects: list[Reject], groups: dict[str, str]) -> ItemResult:
        if not standing:
            return ItemResult(key=key, rejects=rejects)
        count = len(standing) + len(rejects)
        standing = self._allowed(standing, rejects, count)
        if not standing:
            return ItemResult(key=key, rejects=rejects)
        weights = _weights(standing, groups) if self.stage.method is SelectionMethod.WEIGHTED else {}
        standing.sort(key=lambda row: (*self._order(row, weights), row_id("tie", seed=self.seed, id=row["id"])))
        for rank, row in enumerate(standing):
            row["rank"] = rank
        if self.stage.judge_answers and (doubt := self._doubt(standing[0])):
            rejects += [Reject(row=row, reason="judge_differs", detail=doubt) for row in standing]
            return ItemResult(key=key, rejects=rejects)
        kept = self._kept(standing, groups)
        ids = {row["id"] for row in kept}
        rejects += [
            Reject(row=row, reason="not_chosen", detail=f"rank {row['rank']}")
            for row in standing
            if row["id"] not in ids
        ]
        more = {"query": self._query(standing[0]), "selected_by": self.stage.method.value, "candidates": count}
        return ItemResult(key=key, rows=[fit_row(row | more, EXAMPLE) for row in kept], rejects=rejects)

    def _allowed(self, standing: list[dict[str, Any]], rejects: list[Reject], count: int) -> list[dict[str, Any]]:
        """The candidates that may stay whatever their rank; a reject for each of the others."""
        allowed = []
        agreement = max(row["votes"] for row in standing) / count if self.stage.votes else 0.0
        for row in standing:
            reason = self._objection(row, agreement)
            if reason is None:
                allowed.append(row)
            else:
                rejects.append(Reject(row=row, reason=reason[0], detail=reason[1]))
        return allowed

    def _objection(self, row: dict[str, Any], agreement: float) -> tuple[str, str] | None:
        """Why a candidate may not stay."""
        stage = self.stage
        checked = stage.method is SelectionMethod.CHECK and row.get("answer") is not None
        if checked and not row["correct"]:
            return "wrong", f"{row['response_answer']} is not {row['answer']}"
        if agreement < stage.min_agreement:
            return "low_agreement", f"{agreement:.3f} of the candidates have the commonest answer"
        if stage.min_reward is not None and row["reward"] < stage.min_reward:
            return "low_reward", f"{row['reward']:.4f}"
        return None

    def _doubt(self, best: Row) -> str | None:
        """What the judge answered, where it is not the best answer."""
        own = self.domain.final_answer(best.get("judge_reply") or "")
        if own is not None and self.domain.check(own, best["response_answer"]):
            return None
        return f"the judge's own answer is {own or 'missing'}, not {best['response_answer']}"

    def _kept(self, ranked: list[dict[str, Any]], groups: dict[str, str]) -> list[dict[str, Any]]:
        """Those that stay, the best first."""
        if self.stage.keep is Keep.ALL:
            return ranked
        if self.stage.keep is Keep.AGREEING:
            return [row for row in ranked if groups[row["id"]] == groups[ranked[0]["id"]]]
        return ranked[: self.stage.top_k if self.stage.keep is Keep.TOP_K else 1]

    def _order(self, row: dict[str, Any], weights: dict[str, float]) -> tuple[float, ...]:
        """What candidates are ordered by, the best first."""
        if self.stage.method is SelectionMethod.REWARD:
            return (-row["reward"],)
        if self.stage.method is SelectionMethod.WEIGHTED:
            return (-weights[row["id"]], -row["reward"])
        return (-row["votes"],)


def _texts(rows: list[Row]) -> Candidates:
    answers, responses = [row["response_answer"] for row in rows], [row["response"] for row in rows]
    return Candidates(question=rows[0], answers=answers, responses=responses)


def _weights(rows: list[dict[str, Any]], groups: dict[str, str]) -> dict[str, float]:
    """The weight of each candidate's answer: its share of the softmax of all rewards, which are of any sign."""
    top = max(row["reward"] for row in rows)
    mass: Counter[str] = Counter()
    for row in rows:
        mass[groups[row["id"]]] += math.exp(row["reward"] - top)  # type: ignore[assignment]
    return {row["id"]: mass[groups[row["id"]]] / sum(mass.values()) for row in rows}


def _question(row: Row) -> str:
    return str(row.get("question_id") or row_id("question", text=row["question"]))


def _item(question: str, rows: list[Row]) -> WorkItem:
    """The candidates of a question as one item."""
    places = [i if row.get("response_index") is None else row["response_index"] for i, row in enumerate(rows)]
    candidates = [{**r, "question_id": question, "response_index": i} for r, i in zip(rows, places, strict=True)]
    return WorkItem(row_id("select", question=question, candidates=[c["id"] for c in candidates]), candidates)


def _metrics(directory: Path, domain: Domain) -> dict[str, float]:
    """How often the chosen one is right, and how often a candidate at random: by reference or oracle."""
    chosen, agreement = [], []
    there = read_manifest(directory).schema
    columns = [name for name in ("agreement", "correct", "question", "response_answer") if name in there]
    for row in read_rows(directory, columns):
        chosen.append(_right(row, domain))
        agreement += [row["agreement"]] if row["agreement"] is not None else []
    others = [_right(json.loads(row["row"]), domain) for row in read_rejects(directory)]
    graded = [right for right in chosen if right is not None]
    every = graded + [right for right in others if right is not None]
    shares = {"correct/chosen": graded, "correct/random": every if graded else [], "agreement": agreement}
    return {name: sum(values) / len(values) for name, values in shares.items() if values}


def _right(row: Any, domain: Domain) -> bool | None:
    """Whether a candidate is right; None where neither a reference nor an oracle tells."""
    if row.get("correct") is not None:
        return bool(row["correct"])
    if "question" not in row:
        return None
    label = domain.oracle_label(row["question"])
    if label is None:
        return None
    answer = row.get("response_answer")
    return label.answer is not None and answer is not None and domain.check(answer, label.answer)
