"""What a dataset is for: SFT, preference pairs, or reinforcement learning with a verifiable answer.

All are made of one selection: the candidates kept of a question are rows of it, the best first, the others are
rejects. A pair is right against wrong where a reference tells, else the best reward against the worst, else the most
votes against the fewest (the paper's own future work). A verifiable answer is the reference, or what most candidates
say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import groupby
from typing import Any

import pyarrow as pa

from sq.core.columns import BOOL, FLOAT, INT, MESSAGES, TEXT, TEXTS
from sq.core.compose import load_option
from sq.core.errors import RowError
from sq.domains.base import Candidates, Domain, DomainConfig, check_answers
from sq.report.artifacts import StageArtifacts

Row = dict[str, Any]


class DatasetFormat(Enum):
    """What the rows are for."""

    SFT = "sft"
    """`prompt` and `completion`, with the row's lineage."""
    PREFERENCE = "preference"
    """`prompt`, `chosen` and `rejected`, as TRL's DPOTrainer and RewardTrainer take them."""
    RLVR = "rlvr"
    """`prompt` and `answer`, as TRL's GRPOTrainer takes them, with the columns that verl wants beside."""


LINEAGE = [("id", TEXT), ("question", TEXT), ("domain", TEXT), ("generator", TEXT), ("parents", TEXTS)]
SCHEMAS = {
    DatasetFormat.PREFERENCE: pa.schema([
        ("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES), ("score_chosen", FLOAT),
        ("score_rejected", FLOAT), ("preferred_by", TEXT), ("chosen_model", TEXT), ("rejected_model", TEXT), *LINEAGE,
    ]),
    DatasetFormat.RLVR: pa.schema([
        ("prompt", MESSAGES), ("answer", TEXT), ("verified", BOOL), ("agreement", FLOAT), ("pass_rate", FLOAT),
        ("candidates", INT), ("data_source", TEXT), ("ability", TEXT),
        ("reward_model", pa.struct([("style", TEXT), ("ground_truth", TEXT)])),
        ("extra_info", pa.struct([("split", TEXT), ("index", INT)])), *LINEAGE,
    ]),
}  # fmt: skip
ABOUT = {
    "prompt": "the question as a chat message, with the instruction of the domain",
    "chosen": "the better solution",
    "rejected": "a worse one of the same question",
    "score_chosen": "the reward model's score, or votes, of the better one",
    "score_rejected": "the same of the worse one",
    "preferred_by": '"correct" (by the reference), "reward" or "votes"',
    "chosen_model": "who wrote the better one",
    "rejected_model": "who wrote the worse one",
    "answer": "the verifiable answer: the reference where there is one, else what most candidates say",
    "verified": "whether that is a reference",
    "agreement": "share of the candidates whose answer is the most frequent one",
    "pass_rate": "share of the candidates whose answer is `answer`: what the solver can do already",
    "candidates": "how many solutions there were",
    "data_source": "as verl wants it: which reward function is for the row",
    "ability": "as verl wants it: the domain",
    "reward_model": "as verl wants it: the verifiable answer",
    "extra_info": "as verl wants it: split and index",
}


def formatted(
    stages: Sequence[StageArtifacts], form: DatasetFormat, domain: Domain | None, left_out: Counter[str]
) -> Iterator[Row]:
    """The dataset's rows, in the selection's order; questions that give none are counted in `left_out`, by reason."""
    index = 0
    for stage in stages:
        for chosen, others in _questions(stage):
            if form is DatasetFormat.PREFERENCE:
                row = _pair(chosen, others)
            else:
                domain = domain or _domain(chosen.get("domain") or "")
                row = _verifiable(chosen, others, domain, index)
            if row is not None:
                index += 1
                yield {**row, "prompt": _message("user", chosen["query"]), **{n: chosen.get(n) for n, _ in LINEAGE}}
            elif form is DatasetFormat.RLVR:
                left_out["no candidate with an answer"] += 1
            else:
                left_out["candidates with equal scores" if _comparable(others) else "one candidate alone"] += 1


def _domain(name: str) -> Domain:
    """The domain of that name, with the seeds that its YAML takes from other files."""
    config: DomainConfig | None = load_option("domain", name)
    if config is None:
        raise RowError(
            f"--format rlvr compares answers, and the rows' domain {name!r} is none of conf/domain. Select again with "
            "domain=...: rows of an earlier version did not name it"
        )
    return config.create()


def _questions(stage: StageArtifacts) -> Iterator[tuple[Row, list[Row]]]:
    """The best candidate of each question with its others: further ones that were kept, and those among the rejects,
    which stand in the same order."""
    rejects = ((row, reason) for row, reason, _ in stage.rejects() if "question_id" in row)
    groups = groupby(rejects, key=lambda each: each[0]["question_id"])
    ahead: dict[str, list[Row]] = {}  # of questions passed on the way: those without a chosen one stay here
    for wanted, kept in groupby(stage.rows(), key=lambda row: row["question_id"]):
        best, *more = kept
        while (best["candidates"] or 1) > 1 + len(more) and wanted not in ahead:
            question, group = next(groups, (wanted, iter(())))
            ahead[question] = [{**other, "reason": reason} for other, reason in group]
        others = [{**row, "reason": "kept"} for row in more] + ahead.get(wanted, [])
        ahead.clear()
        yield best, others


def _pair(chosen: Row, others: Iterable[Row]) -> Row | None:
    """A better candidate against a worse one: right against wrong where a reference tells, else by reward or votes."""
    rows = [chosen, *_comparable(others)]
    score = next((name for name in ("reward", "votes") if chosen.get(name) is not None), None)
    scored = sorted(rows, key=lambda row: (-(_number(row, score) or 0.0), row["id"]))
    right = [row for row in scored if row.get("correct") is True]
    wrong = [row for row in scored if row.get("correct") is False]
    if right and wrong:
        better, worse, measure = chosen if chosen.get("correct") else right[0], wrong[-1], "correct"
    else:
        better, worse, measure = chosen, scored[-1], score or ""
        if score is None or not (_number(worse, score) or 0.0) < (_number(chosen, score) or 0.0):
            return None
    return {
        "chosen": _message("assistant", better["response"]), "rejected": _message("assistant", worse["response"]),
        "score_chosen": _number(better, score), "score_rejected": _number(worse, score), "preferred_by": measure,
        "chosen_model": better.get("response_model"), "rejected_model": worse.get("response_model"),
    }  # fmt: skip


def _comparable(others: Iterable[Row]) -> list[Row]:
    """Those that were held against the chosen one."""
    return [row for row in others if row["reason"] in ("kept", "not_chosen", "wrong", "low_reward")]


def _verifiable(chosen: Row, others: Iterable[Row], domain: Domain, index: int) -> Row | None:
    """The question with its answer, how many candidates agree on it, and how often the solver finds it."""
    answered = [row for row in (chosen, *others) if row.get("response_answer") is not None]
    if not answered:
        return None
    count = int(chosen["candidates"] or len(answered))
    answers, responses = [row["response_answer"] for row in answered], [row["response"] for row in answered]
    vote = domain.vote(Candidates(question=chosen, answers=answers, responses=responses))
    groups = Counter(vote.keys)
    most = max(groups, key=lambda key: (groups[key], key == vote.keys[0]))  # a tie goes to the chosen one's answer
    reference = chosen.get("answer")
    if reference is not None:
        answer, right = reference, sum(check_answers(domain, answers, reference))
    else:
        answer = next(row["response_answer"] for row, key in zip(answered, vote.keys, strict=True) if key == most)
        right = groups[most]
    return {
        "answer": answer, "verified": reference is not None, "agreement": groups[most] / count,
        "pass_rate": right / count, "candidates": count, "data_source": f"sq/{chosen.get('domain') or 'questions'}",
        "ability": chosen.get("domain") or "", "reward_model": {"style": "rule", "ground_truth": answer},
        "extra_info": {"split": "train", "index": index},
    }  # fmt: skip


def _message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def _number(row: Row, name: str | None) -> float | None:
    return float(row[name]) if name is not None and row.get(name) is not None else None
