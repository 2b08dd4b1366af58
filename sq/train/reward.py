"""A reward model from a solver's own graded solutions: the judge of best-of-n with nothing to download (ours).

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
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC
from torchmetrics.utilities import dim_zero_cat

from sq.core.chat import ChatFormat
from sq.core.errors import ConfigError, RowError
from sq.data.module import StepPack
from sq.data.sources import read_source
from sq.data.tokens import TokenizedExample
from sq.domains.base import Domain
from sq.models.losses import correctness_loss, preference_loss
from sq.models.pack import TokenSequence
from sq.models.regressor import exchange_ids, make_head, predictions
from sq.train.base import BaseModule
from sq.train.config import TooLong, TrainJob
from sq.train.held_out import HeldOutRows
from sq.train.rows import Task, UnusableRow
from sq.train.stages import Objective, RewardStage

RIGHT, WEIGHT, GROUP = 0, 1, 2
"""Places of an item's values: whether it is right (of pairs: always), how many samples said just this, its question."""


class RewardModule(BaseModule):
    """Scores of solutions, and how well they tell right from wrong on questions that were held out."""

    stage: RewardStage
    metric_names = ("loss", "accuracy")
    keep_last = True

    def prepare(self) -> None:
        values = self.data.train.values
        share = float(values[:, RIGHT] @ values[:, WEIGHT] / values[:, WEIGHT].sum())
        even = self.data.train.segments == 2  # a right and a wrong one each
        if not even and not 0 < share < 1:
            raise RowError(
                f"there is nothing to tell apart: only {'right' if share else 'wrong'} solutions are left to train on. "
                "Grade harder or easier problems, or more of them"
            )
        self.head = make_head(self.model, 0.0 if even else math.log(share / (1 - share)))
        output = self.model.get_output_embeddings()
        if output is not None and output.weight is not self.model.get_input_embeddings().weight:
            output.requires_grad_(False)  # it has no part in the loss, and DDP would wait for its gradient
        self.held_out = HeldOutRows()

    def divisor(self, items: Any) -> float:
        return float(self.data.train.values[list(items), WEIGHT].sum())

    def loss_of(self, batch: StepPack, kind: str) -> Tensor:
        source = self.data.train if kind == "train" else self.data.held_out
        scores = predictions(self.model, self.head, batch.pack, self.attention)
        known = torch.tensor(source.values[list(batch.pack.rows)], device=scores.device)
        right, weights, groups = known[:, RIGHT], known[:, WEIGHT], known[:, GROUP]
        if batch.pack.paired:
            loss = self._loss_of_pairs(scores[0::2], scores[1::2])
            right = torch.tensor([1.0, 0.0], device=scores.device).repeat(len(known))
            weights, groups = weights.repeat_interleave(2), groups.repeat_interleave(2)
        else:
            loss = correctness_loss(scores, right, weights)
        total = float(known[:, WEIGHT].sum())
        seen = total if batch.divisor else 0.0
        agreed = ((scores.detach() > 0) == (right > 0.5)).float()
        self.metric(kind, "loss").update(loss.detach() / total, weight=seen)
        self.metric(kind, "accuracy").update(torch.dot(agreed, weights) / weights.sum(), weight=seen)
        if kind == "val" and batch.divisor:
            self.held_out.note(scores, right, groups)
        return loss

    def _loss_of_pairs(self, better: Tensor, worse: Tensor) -> Tensor:
        loss = preference_loss(better, worse)
        if self.stage.objective is Objective.PREFERENCE:
            return loss
        one, other = torch.ones_like(better), torch.zeros_like(worse)
        return loss + (correctness_loss(better, one) + correctness_loss(worse, other)) / 2

    def metrics(self, kind: str) -> dict[str, float]:
        found = super().metrics(kind)
        if kind == "val":
            scores, right, groups = self.held_out.take()
            auroc, accuracy, pairwise = BinaryAUROC(), BinaryAccuracy(threshold=0.5), WithinQuestion()
            auroc.update(scores.sigmoid(), right.long())
            accuracy.update(scores.sigmoid(), right.long())
            pairwise.update(scores, right, groups)
            for name, metric in {"auroc": auroc, "pairwise": pairwise, "accuracy": accuracy}.items():
                metric.sync_on_compute = False  # the rows are those of all processes
                found[f"val/{name}"] = float(metric.compute())
        return found

    def extra_groups(self) -> list[dict[str, Any]]:
        lr = self.stage.head_lr or self.stage.lr
        return [{"params": list(self.head.parameters()), "weight_decay": 0.0, "lr": lr}]


class WithinQuestion(Metric):
    """Share of pairs of a right and a wrong solution to the same question in which the right one scores more.

    A tie counts half. This, and not the share over all, is what best-of-n needs.
    """

    full_state_update = False
    scores: list[Tensor]
    right: list[Tensor]
    groups: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("scores", "right", "groups"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, right: Tensor, groups: Tensor) -> None:
        """Take in scores, whether each is right, and which question each is of."""
        self.scores.append(scores)
        self.right.append(right)
        self.groups.append(groups)

    def compute(self) -> Tensor:
        """The share; NaN where no question has both a right and a wrong solution."""
        scores, right, groups = (dim_zero_cat(part) for part in (self.scores, self.right, self.groups))
        won = pairs = 0.0
        for group in groups.unique():
            mine = groups == group
            good, bad = scores[mine & (right > 0)], scores[mine & (right == 0)]
            ahead = good[:, None] - bad[None, :]
            won += float((ahead > 0).sum() + (ahead == 0).sum() / 2)
            pairs += ahead.numel()
        return torch.tensor(won / pairs if pairs else math.nan)


def task(job: TrainJob, chat: ChatFormat, tokenizer: Any) -> Task:
    """Graded solutions: of `fail_rate`'s labels, or rows with a question, a response, and whether it is right."""
    stage = job.stage
    assert isinstance(stage, RewardStage)
    domain = job.domain.create()
    if job.data.too_long is TooLong.TRUNCATE:
        raise ConfigError(
            "data.too_long=truncate would cut the end off solutions, and with it what was graded; use reject"
        )

    def row(question: str, solution: str) -> TokenSequence:
        ids = exchange_ids(tokenizer, question, solution, domain.instruction)
        return TokenSequence(ids, len(ids) - 1)

    def encode(found: dict[str, Any]) -> TokenizedExample:
        if found.get("unusable"):
            raise UnusableRow(*found["unusable"])
        values = (float(found["right"]), float(found["weight"]), float(found["group"]))
        return TokenizedExample(tuple(row(found["question"], text) for text in found["texts"]), found["id"], values)

    def expand(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for group, (question, graded) in enumerate(_graded(rows, domain)):
            yield from _items(group, question, graded, stage, job.seed)

    template = str(tokenizer.chat_template)
    return Task(need=_need(job, domain), encode=encode, expand=expand, template=template, chat=chat, domain=domain)


def _need(job: TrainJob, domain: Domain) -> tuple[str, ...]:
    """The columns of the source: those of labels that kept their solutions, else those of single responses.

    A response must be asked for by its name: a solution with no answer beside it would be taken for a reference.
    """
    if job.data.input is None and not job.data.mix:
        raise ConfigError(
            "stage=reward reads graded solutions: give data.input=, a directory of stage=fail_rate or of stage=answers"
        )
    first = next(read_source(job.data, ("question",), [], domain=domain))
    if "solver_solutions" not in first:
        return ("question", "response")
    if not first["solver_solutions"]:
        raise RowError(f"{job.data.input} has labels without their solutions: make them with stage.keep_solutions=true")
    return ("question", "solver_solutions", "solver_right")


Graded = Counter[tuple[str, bool]]
"""Solutions and whether they are right; how many samples said just that."""


def _graded(rows: Iterator[dict[str, Any]], domain: Domain) -> Iterator[tuple[dict[str, Any], Graded | None]]:
    """Questions with their graded solutions; None where a row has none. Candidates of a question stand together."""
    for _, same in itertools.groupby(rows, key=lambda row: (row.get("question_id"), row["question"])):
        graded: Graded = Counter()
        first: dict[str, Any] | None = None
        for row in same:
            first = first or row
            found = list(_solutions(row, domain))
            if not found:
                yield row, None
            graded.update(found)
        if first is not None and graded:
            yield first, graded


def _solutions(row: dict[str, Any], domain: Domain) -> Iterator[tuple[str, bool]]:
    """A row's solutions and whether they are right: as it says itself, else by its reference answer."""
    texts, verdicts = row.get("solver_solutions") or (), row.get("solver_right") or ()
    if len(texts) == len(verdicts):
        yield from ((str(text), bool(right)) for text, right in zip(texts, verdicts, strict=True))
    if row.get("response") is None:
        return
    if row.get("correct") is not None:
        yield str(row["response"]), bool(row["correct"])
    elif row.get("answer") is not None:
        said = domain.final_answer(str(row["response"]))
        yield str(row["response"]), said is not None and domain.check(said, str(row["answer"]))


def _items(
    group: int, question: dict[str, Any], graded: Graded | None, stage: RewardStage, seed: int
) -> Iterator[dict[str, Any]]:
    """What is trained on of one question: each solution, or pairs of a right and a wrong one."""
    item = {"question": question["question"], "id": str(question["id"]), "right": 1, "weight": 1, "group": group}
    if graded is None:
        yield {
            **item,
            "unusable": ("ungraded", "no solutions with a verdict each, and no response with correct or answer"),
        }
        return
    if stage.objective is Objective.CORRECTNESS:
        for (text, right), weight in graded.items():
            yield {**item, "texts": (text,), "right": right, "weight": weight}
        return
    good, bad = ([text for text, right in graded if right is wanted] for wanted in (True, False))
    if not (good and bad):
        yield {**item, "unusable": ("one-sided", f"{len(good)} right and {len(bad)} wrong solutions make no pair")}
        return
    both = list(itertools.product(good, bad))
    draw = random.Random(f"{seed}:pairs:{question['id']}")
    for texts in both if len(both) <= stage.pairs else draw.sample(both, stage.pairs):
        yield {**item, "texts": texts}
