"""Difficulty regression: how often a solver fails at a problem, read off the last token (paper, section 2.3).

d = W·h + b, with h the hidden state at the last real token, which here is the end token after the question; packs have
no padding, so "last" needs no guessing. The loss is the mean squared error against the fail rate k/n.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import KendallRankCorrCoef, Metric, SpearmanCorrCoef

from sq.core.chat import ChatFormat
from sq.data.module import StepPack
from sq.data.tokens import TokenizedExample
from sq.models.losses import regression_loss
from sq.models.pack import TokenSequence
from sq.models.regressor import make_head, predictions
from sq.train.base import BaseModule
from sq.train.config import TrainJob
from sq.train.held_out import HeldOutRows
from sq.train.rows import Task, UnusableRow
from sq.train.stages import DifficultyStage

BINS = 10
SPREAD = 0.05
"""Standard deviation that even a perfectly known label is given, so that no weight goes to infinity."""


class DifficultyModule(BaseModule):
    """Mean squared error of a linear head, and how well the order is kept on held-out rows."""

    stage: DifficultyStage
    metric_names = ("loss", "mae")
    keep_last = True

    def prepare(self) -> None:
        values = self.data.train.values
        self.head = make_head(self.model, float(values[:, 0].mean()))
        output = self.model.get_output_embeddings()
        if output is not None and output.weight is not self.model.get_input_embeddings().weight:
            output.requires_grad_(False)  # it has no part in the loss, and DDP would wait for its gradient
        self.bins: list[dict[str, float]] = []
        self.held_out = HeldOutRows()

    def divisor(self, items: Any) -> float:
        return float(self.data.train.values[list(items), 1].sum())

    def loss_of(self, batch: StepPack, kind: str) -> Tensor:
        rows = list(batch.pack.rows)
        found = predictions(self.model, self.head, batch.pack, self.attention)
        source = self.data.train if kind == "train" else self.data.held_out
        known = torch.tensor(source.values[rows], device=found.device)
        errors = found - known[:, 0]
        loss = regression_loss(found, known[:, 0], known[:, 1])
        counts = bool(batch.divisor)
        self.metric(kind, "loss").update(loss.detach() / known[:, 1].sum(), weight=known[:, 1].sum() * counts)
        self.metric(kind, "mae").update(errors.detach().abs().mean(), weight=len(rows) * counts)
        if kind == "val" and counts:
            self.held_out.note(found, known[:, 0])
        return loss

    def metrics(self, kind: str) -> dict[str, float]:
        found = super().metrics(kind)
        if kind == "val":
            calibration = Calibration(BINS)
            metrics = {"spearman": SpearmanCorrCoef(), "kendall": KendallRankCorrCoef(), "calibration": calibration}
            predicted, known = self.held_out.take()
            for name, metric in metrics.items():
                metric.sync_on_compute = False  # the rows are those of all processes
                metric.update(predicted, known)
                found[f"val/{name}"] = float(metric.compute())
            self.bins = calibration.table()
        return found

    def tables(self) -> dict[str, list[dict[str, float]]]:
        return {"calibration": self.bins} if self.bins else {}

    def extra_groups(self) -> list[dict[str, Any]]:
        lr = self.stage.head_lr or self.stage.lr
        return [{"params": list(self.head.parameters()), "weight_decay": 0.0, "lr": lr}]


class Calibration(Metric):
    """Mean distance between predicted and real rate, by bins of the prediction, each bin by its share of the rows."""

    full_state_update = False

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.add_state("sums", torch.zeros(bins, 3), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, known: Tensor) -> None:
        """Take in predictions and labels."""
        place = (predicted * self.bins).long().clamp(0, self.bins - 1)
        told = torch.stack([torch.ones_like(predicted), predicted, known.to(predicted)], dim=1)
        self.sums.index_add_(0, place, told)  # type: ignore[operator]

    def compute(self) -> Tensor:
        """The error over all rows."""
        sums = self.sums
        assert isinstance(sums, Tensor)
        return (sums[:, 1] - sums[:, 2]).abs().sum() / sums[:, 0].sum().clamp(min=1)

    def table(self) -> list[dict[str, float]]:
        """What is in each bin that has rows: how many, and their mean prediction and label."""
        sums = self.sums
        assert isinstance(sums, Tensor)
        filled = ((i, *row) for i, row in enumerate(sums.tolist()) if row[0])
        return [
            {"from": i / self.bins, "to": (i + 1) / self.bins, "rows": n, "predicted": p / n, "known": k / n}
            for i, n, p, k in filled
        ]


def task(job: TrainJob, chat: ChatFormat) -> Task:
    """Questions with their fail rates: labels of the `fail_rate` stage, or any file with that column."""
    stage = job.stage
    assert isinstance(stage, DifficultyStage)

    def encode(row: dict[str, Any]) -> TokenizedExample:
        rate = float(row["fail_rate"])
        if not 0 <= rate <= 1:
            raise UnusableRow("rate", f"fail_rate={rate} is not between 0 and 1")
        weight = certainty(rate, row.get("n")) if stage.certainty_weights else 1.0
        return TokenizedExample((TokenSequence(*chat.question_ids(row["question"])),), row["id"], (rate, weight))

    return Task(need=("question", "fail_rate"), encode=encode, chat=chat, domain=job.domain.create())


def certainty(rate: float, n: Any) -> float:
    """How much a label of `n` samples counts: one over its variance (smoothed: 0 of 5 is not certainly 0)."""
    if not n:
        raise UnusableRow(
            "no-n", "stage.certainty_weights=true needs the column n, the number of samples of each label"
        )
    smooth = (rate * n + 1) / (n + 2)
    return float(SPREAD / (SPREAD**2 + smooth * (1 - smooth) / n))
