"""A reward model from a solver's own graded solutions: it scores best-of-n with nothing to download (ours).

A linear head on the last token of question and solution, in the ids that `select` and `evaluate` score. It learns of
each solution by itself whether it is right, or of two solutions to one question which of them is (Bradley and Terry).
The paper (section 2.4) takes InternLM2-7B-Reward.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from sq.core.chat import SupervisedTokens
from sq.core.config import setting
from sq.core.errors import ConfigError, RowError
from sq.data.count_rows import count_groups
from sq.data.order import gathered
from sq.data.sources import SourceConfig, read_source
from sq.domains.base import Domain
from sq.train.head_stage import HeadLoss, HeadStage
from sq.train.stage import (
    EncodedRow,
    Encoding,
    LossInput,
    PackLoss,
    RowContext,
    Rows,
    StageLoss,
    TrainableModel,
    UnusableRow,
)

if TYPE_CHECKING:
    from torch import Tensor

RIGHT, WEIGHT, GROUP = 0, 1, 2
"""Places of an item's values: whether it is right (of pairs: always), how many samples gave just this, its question."""


class Objective(Enum):
    """What a reward model learns of graded solutions."""

    CORRECTNESS = "correctness"
    """Of each solution by itself whether it is right: binary cross-entropy."""
    PREFERENCE = "preference"
    """Of a right and a wrong solution to one question which is which: Bradley and Terry."""
    BOTH = "both"
    """Both of the same pairs."""


@dataclass(frozen=True, kw_only=True)
class RewardStage(HeadStage):
    """A reward model from a solver's own graded solutions (ours; the paper takes InternLM2-7B-Reward)."""

    reads: ClassVar[str] = "answers"
    next_command: ClassVar[str] = "synthesize stage=select {domain} engine=hf {path} input=outputs/answers-tiny"

    objective: Objective = setting(Objective.CORRECTNESS, help="correctness, preference (pairs of a question) or both")
    pairs: int = setting(4, ge=1, help="preference, both: most pairs of a right and a wrong solution to a question")

    def encoding(self, context: RowContext) -> Encoding:
        """Graded solutions: of `fail_rate`'s labels, or rows with a question, a response, and whether it is right."""
        from sq.models.regressor import exchange_ids

        domain, tokenizer = context.domain, context.tokenizer

        def sequence(question: str, solution: str) -> SupervisedTokens:
            ids = exchange_ids(tokenizer, question, solution, domain.instruction)
            return SupervisedTokens(ids, len(ids) - 1)

        def encode(row: dict[str, Any]) -> EncodedRow:
            if "unusable" in row:
                raise UnusableRow(*row["unusable"])
            values = (float(row["right"]), float(row["weight"]), float(row["group"]))
            return EncodedRow([sequence(row["question"], text) for text in row["texts"]], values)

        def expand(rows: Rows) -> Rows:
            whole = replace(context.source, limit=None)
            counts = count_groups(whole, need, _question, domain=domain)
            for group, (question, graded) in enumerate(_graded(gathered(rows, _question, counts), domain)):
                yield from self._items(group, question, graded, context.seed)

        need = _columns(context.source, domain)
        template = str(tokenizer.chat_template)
        return Encoding(need=need, encode=encode, expand=expand, template=template, whole=True)

    def make_loss(self, trained: TrainableModel) -> StageLoss:
        values, pairs = trained.rows.values, trained.rows.segments == 2
        share = 0.5 if pairs else float(values[:, RIGHT] @ values[:, WEIGHT] / values[:, WEIGHT].sum())
        if not 0 < share < 1:
            raise RowError(
                f"there is nothing to tell apart: only {'right' if share else 'wrong'} solutions are left to train on. "
                "Grade harder or easier problems, or more of them"
            )
        return RewardLoss(trained, math.log(share / (1 - share)), self.head_lr, self.objective)

    def _items(self, group: int, question: dict[str, Any], graded: Graded | None, seed: int) -> Rows:
        """What is trained on of one question: each solution, or pairs of a right and a wrong one."""
        item = {"question": question["question"], "id": str(question["id"]), "right": 1, "weight": 1, "group": group}
        if graded is None:
            detail = "no solutions that are graded each, and no response with correct or answer"
            yield {**item, "unusable": ("ungraded", detail)}
            return
        if self.objective is Objective.CORRECTNESS:
            for (text, right), weight in graded.items():
                yield {**item, "texts": (text,), "right": right, "weight": weight}
            return
        good, bad = ([text for text, right in graded if right is wanted] for wanted in (True, False))
        if not (good and bad):
            yield {**item, "unusable": ("one-sided", f"{len(good)} right and {len(bad)} wrong solutions make no pair")}
            return
        both = list(itertools.product(good, bad))
        draw = random.Random(f"{seed}:pairs:{question['id']}")
        for texts in both if len(both) <= self.pairs else draw.sample(both, self.pairs):
            yield {**item, "texts": texts}


class RewardLoss(HeadLoss):
    """Scores of solutions, and how well they tell right from wrong on questions that were held out."""

    head_note: ClassVar[str] = "reward.json"

    def __init__(self, trained: TrainableModel, bias: float, head_lr: float | None, objective: Objective) -> None:
        super().__init__(trained, bias, head_lr)
        self.objective = objective

    def __call__(self, batch: LossInput) -> PackLoss:
        from sq.models.losses import correctness_loss

        scores = self.predict(batch.pack)
        right, weights, groups = (batch.values[:, column] for column in (RIGHT, WEIGHT, GROUP))
        total = weights.sum()
        if batch.pack.paired:
            loss = self._of_pairs(scores[0::2], scores[1::2])
            right = scores.new_tensor([1.0, 0.0]).repeat(len(groups))
            weights, groups = weights.repeat_interleave(2), groups.repeat_interleave(2)
        else:
            loss = correctness_loss(scores, right, weights)
        agreed = ((scores.detach() > 0) == (right > 0.5)).float()
        accuracy = agreed @ weights / weights.sum()
        means = {"loss": (loss.detach() / total, total), "accuracy": (accuracy, total)}
        return PackLoss(total=loss, means=means, held_out=(scores, right, groups))

    def _of_pairs(self, better: Tensor, worse: Tensor) -> Tensor:
        from sq.models.losses import correctness_loss, preference_loss

        loss = preference_loss(better, worse)
        if self.objective is Objective.PREFERENCE:
            return loss
        one, other = better.new_ones(len(better)), worse.new_zeros(len(worse))
        return loss + (correctness_loss(better, one) + correctness_loss(worse, other)) / 2

    def metrics(self, kind: str, means: dict[str, float], held_out: Tensor | None) -> dict[str, float]:
        from torchmetrics.functional.classification import binary_auroc

        if held_out is None:
            return means
        scores, right, groups = held_out
        return means | {
            "auroc": float(binary_auroc(scores.sigmoid(), right.long())),
            "accuracy": float(((scores > 0) == (right > 0.5)).float().mean()),
            "pairwise": within_question(scores, right, groups),
        }


def within_question(scores: Tensor, right: Tensor, groups: Tensor) -> float:
    """Share of pairs of a right and a wrong solution to the same question in which the right one scores more.

    A tie counts half; NaN without such pairs. This, and not the share over all, is what best-of-n needs.
    """
    ahead = pairs = 0.0
    for group in groups.unique():
        mine = groups == group
        good, bad = scores[mine & (right > 0)], scores[mine & (right == 0)]
        differences = good[:, None] - bad[None, :]
        ahead += float((differences > 0).sum() + (differences == 0).sum() / 2)
        pairs += differences.numel()
    return ahead / pairs if pairs else math.nan


def _columns(source: SourceConfig, domain: Domain) -> tuple[str, ...]:
    """The columns of the source: those of labels that kept their solutions, else those of single responses.

    A response must be asked for by its name: a solution with no answer beside it would be taken for a reference.
    """
    if source.input is None and not source.mix:
        raise ConfigError(
            "stage=reward reads graded solutions: give data.input=, a directory of stage=fail_rate or of stage=answers"
        )
    first = next(read_source(source, ("question",), [], domain=domain))
    if "chosen" in first and "response" not in first:
        raise RowError(
            f"{source.input} has pairs (chosen, rejected), and stage=reward reads single solutions and whether each is "
            "right: give the directory of stage=answers or stage=fail_rate; stage.objective=preference makes the pairs"
        )
    if "solver_solutions" not in first:
        return ("question", "response")
    if not first["solver_solutions"]:
        raise RowError(f"{source.input} has labels without their solutions: make them with stage.keep_solutions=true")
    return ("question", "solver_solutions", "solver_right")


Graded = Counter[tuple[str, bool]]
"""Solutions and whether they are right; how many samples gave just that."""


def _question(row: dict[str, Any]) -> str:
    return repr((row.get("question_id"), row["question"]))


def _graded(
    questions: Iterator[tuple[str, list[dict[str, Any]]]], domain: Domain
) -> Iterator[tuple[dict[str, Any], Graded | None]]:
    """Questions with their graded solutions; None where a row has none."""
    for _, same in questions:
        graded: Graded = Counter()
        first: dict[str, Any] | None = None
        for row in same:
            first = first or row
            solutions = list(_solutions(row, domain))
            if not solutions:
                yield row, None
            graded.update(solutions)
        if first is not None and graded:
            yield first, graded


def _solutions(row: dict[str, Any], domain: Domain) -> Iterator[tuple[str, bool]]:
    """A row's solutions and whether they are right: as it says itself, else by its reference answer."""
    texts, right = row.get("solver_solutions") or (), row.get("solver_right") or ()
    if len(texts) == len(right):
        yield from ((str(text), bool(good)) for text, good in zip(texts, right, strict=True))
    if row.get("response") is None:
        return
    response = str(row["response"])
    if row.get("correct") is not None:
        yield response, bool(row["correct"])
    elif row.get("answer") is not None:
        answer = domain.final_answer(response)
        yield response, answer is not None and domain.check(answer, str(row["answer"]))
