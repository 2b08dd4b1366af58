"""Stages whose loss is cross-entropy over supervised tokens: pretraining, QFT, SFT."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sq.train.stage import LossContext, LossInput, PackLoss, StageConfig, StageLoss

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenStage(StageConfig):
    """A stage with a token loss; `encoding` says which tokens carry it."""

    def make_loss(self, context: LossContext) -> StageLoss:
        return TokenLoss(context)


class TokenLoss(StageLoss):
    """Cross-entropy, divided by the supervised tokens of the whole step."""

    def __init__(self, context: LossContext) -> None:
        super().__init__(context)
        self.kernel = context.kernel

    def divisor(self, items: Sequence[int]) -> float:
        return float(sum(self.rows.supervised(i) for i in items))

    def __call__(self, batch: LossInput) -> PackLoss:
        from sq.models.packed_forward import pack_loss

        out = pack_loss(self.model, batch.pack, self.attention, self.kernel)
        means = {"loss": (out.total.detach() / out.count, out.count)}
        if out.correct is not None:  # a kernel of others does not count them
            means["token_accuracy"] = (out.correct / out.count, out.count)
        return PackLoss(total=out.total, means=means)

    def metrics(self, kind: str, means: dict[str, float], held_out: Tensor | None) -> dict[str, float]:
        return means | {"perplexity": math.exp(min(means["loss"], 50))}
