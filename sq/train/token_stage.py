"""Stages whose loss is cross-entropy over supervised tokens: pretraining, QFT, SFT."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sq.core.config import setting
from sq.train.stage import LossInput, PackLoss, StageConfig, StageLoss, TrainableModel

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenStage(StageConfig):
    """A stage with a token loss; `encoding` says which tokens carry it."""

    label_smoothing: float = setting(0.0, ge=0, lt=1, help="share of the loss that asks for every token alike")

    def make_loss(self, trained: TrainableModel) -> StageLoss:
        return TokenLoss(trained, self.label_smoothing)


class TokenLoss(StageLoss):
    """Cross-entropy, divided by the supervised tokens of the whole step; labels are smoothed in training only."""

    def __init__(self, trained: TrainableModel, label_smoothing: float) -> None:
        super().__init__(trained)
        self.kernel, self.label_smoothing = trained.head.kernel, label_smoothing

    def divisor(self, items: Sequence[int]) -> float:
        return float(sum(self.rows.supervised(i) for i in items))

    def __call__(self, batch: LossInput) -> PackLoss:
        from sq.models.packed_forward import pack_loss

        smoothing = self.label_smoothing if batch.training else 0.0
        out = pack_loss(self.model, batch.pack, self.attention, self.kernel, smoothing)
        means = {"loss": (out.total.detach() / out.count, out.count)}
        if out.correct is not None:  # a kernel of others does not count them
            means["token_accuracy"] = (out.correct / out.count, out.count)
        return PackLoss(total=out.total, means=means)

    def metrics(self, kind: str, means: dict[str, float], held_out: Tensor | None) -> dict[str, float]:
        if kind == "train" and self.label_smoothing:
            return means
        return means | {"perplexity": math.exp(min(means["loss"], 50))}
