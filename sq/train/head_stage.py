"""Stages that train a linear head on the last token's hidden state: difficulty, reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sq.core.config import setting
from sq.train.stage import StageConfig, StageLoss, TrainableModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sq.models.pack import Pack


@dataclass(frozen=True, kw_only=True)
class HeadStage(StageConfig):
    """A stage with a linear head."""

    head_lr: float | None = setting(None, gt=0, help="learning rate of the linear head; default: lr")


class HeadLoss(StageLoss):
    """The head, which begins by giving `bias` for everything; the second of an item's values is its weight."""

    keep_last: ClassVar[bool] = True
    head: nn.Linear

    def __init__(self, trained: TrainableModel, bias: float, head_lr: float | None) -> None:
        from sq.models.regressor import make_head

        super().__init__(trained)
        self.head, self.head_lr = make_head(self.model, bias), head_lr
        output = self.model.get_output_embeddings()
        if output is not None and output.weight is not self.model.get_input_embeddings().weight:
            output.requires_grad_(False)  # it has no part in the loss, and DDP would wait for its gradient

    def predict(self, pack: Pack) -> Tensor:
        """[sequences] what the head gives for each."""
        from sq.models.regressor import predictions

        return predictions(self.model, self.head, pack, self.attention)

    def divisor(self, items: Sequence[int]) -> float:
        return float(self.rows.values[list(items), 1].sum())
