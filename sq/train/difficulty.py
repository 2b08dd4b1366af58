"""Difficulty regression: how often a solver fails at a problem, read off the last token (paper, section 2.3).

d = W·h + b, with h the hidden state at the last real token, which here is the end token after the question; packs have
no padding, so "last" needs no guessing. The loss is the mean squared error against the fail rate k/n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sq.core.config import setting
from sq.train.head_stage import HeadLoss, HeadStage
from sq.train.stage import EncodedRow, Encoding, LossInput, PackLoss, RowContext, StageLoss, TrainableModel, UnusableRow

if TYPE_CHECKING:
    from torch import Tensor

BINS = 10
SPREAD = 0.05
"""Standard deviation that even a certain label is given, so that no weight goes to infinity."""


@dataclass(frozen=True, kw_only=True)
class DifficultyStage(HeadStage):
    """Regression of fail rates on the last token's hidden state."""

    reads: ClassVar[str] = "fail_rate"
    next_command: ClassVar[str] = (
        "synthesize stage=filter {domain} filters=[difficulty] filters.difficulty.model.name=difficulty "
        "filters.difficulty.{path} input=outputs/questions-tiny"
    )

    certainty_weights: bool = setting(False, help="labels from more samples count for more")

    def encoding(self, context: RowContext) -> Encoding:
        """Questions with their fail rates: labels of the `fail_rate` stage, or any file with that column."""

        def encode(row: dict[str, Any]) -> EncodedRow:
            rate = float(row["fail_rate"])
            if not 0 <= rate <= 1:
                raise UnusableRow("rate", f"fail_rate={rate} is not between 0 and 1")
            weight = certainty(rate, row.get("n")) if self.certainty_weights else 1.0
            return EncodedRow([context.chat.question_ids(row["question"])], (rate, weight))

        return Encoding(need=("question", "fail_rate"), encode=encode)

    def make_loss(self, trained: TrainableModel) -> StageLoss:
        return DifficultyLoss(trained, float(trained.rows.values[:, 0].mean()), self.head_lr)


class DifficultyLoss(HeadLoss):
    """Mean squared error of a linear head, and how well the order is kept on held-out rows."""

    head_note: ClassVar[str] = "regressor.json"

    def __init__(self, trained: TrainableModel, bias: float, head_lr: float | None) -> None:
        super().__init__(trained, bias, head_lr)
        self.bins: list[dict[str, float]] = []

    def __call__(self, batch: LossInput) -> PackLoss:
        from sq.models.losses import regression_loss

        rates, weights = batch.values[:, 0], batch.values[:, 1]
        predicted = self.predict(batch.pack)
        loss, total = regression_loss(predicted, rates, weights), weights.sum()
        error = (predicted.detach() - rates).abs().mean()
        means: dict[str, tuple[Tensor, Tensor | float]] = {
            "loss": (loss.detach() / total, total),
            "mae": (error, len(rates)),
        }
        return PackLoss(total=loss, means=means, held_out=(predicted, rates))

    def metrics(self, kind: str, means: dict[str, float], held_out: Tensor | None) -> dict[str, float]:
        import torch
        from torchmetrics.functional import kendall_rank_corrcoef, spearman_corrcoef

        if held_out is None:
            return means
        predicted, rates = held_out
        self.bins, error = calibration(predicted, rates)
        return means | {
            "spearman": spearman_corrcoef(predicted, rates).item(),
            "kendall": torch.as_tensor(kendall_rank_corrcoef(predicted, rates)).item(),
            "calibration": error,
        }

    def tables(self) -> dict[str, list[dict[str, float]]]:
        return {"calibration": self.bins} if self.bins else {}


def calibration(predicted: Tensor, rates: Tensor, bins: int = BINS) -> tuple[list[dict[str, float]], float]:
    """Bins of the prediction: how many rows are in each, and their mean prediction and fail rate; and the mean distance
    between these two, each bin by its rows."""
    place = (predicted * bins).long().clamp(0, bins - 1)
    table = []
    for i in place.unique().tolist():
        here = place == i
        means = {"predicted": float(predicted[here].mean()), "known": float(rates[here].mean())}
        table.append({"from": i / bins, "to": (i + 1) / bins, "rows": float(here.sum()), **means})
    return table, sum(row["rows"] * abs(row["predicted"] - row["known"]) for row in table) / len(rates)


def certainty(rate: float, n: Any) -> float:
    """How much a label of `n` samples counts: one over its variance (smoothed: 0 of 5 is not certainly 0)."""
    if not n:
        raise UnusableRow(
            "no-n", "stage.certainty_weights=true needs the column n, the number of samples of each label"
        )
    smooth = (rate * n + 1) / (n + 2)
    return float(SPREAD / (SPREAD**2 + smooth * (1 - smooth) / n))
