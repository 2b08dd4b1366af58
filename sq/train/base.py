"""The one level over LightningModule: optimiser, schedule, loss over packs, and what is logged.

A stage's module says how its rows become tokens and, where it is not plain next-token loss, what its loss is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torchmetrics import MeanMetric

from sq.core.errors import SqError
from sq.data.module import StepPack
from sq.models.attention import Attention
from sq.models.packed import pack_loss
from sq.train.config import Schedule, StageConfig
from sq.train.optim import MasterAdamW

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class BaseModule(L.LightningModule):
    """Trains `model` on packs; `steps` is the length of the whole schedule."""

    def __init__(self, model: PreTrainedModel, attention: Attention, config: StageConfig, steps: int) -> None:
        super().__init__()
        self.model, self.attention, self.config, self.steps = model, attention, config, steps
        self.train_loss, self.train_accuracy = MeanMetric(), MeanMetric()
        self.val_loss, self.val_accuracy = MeanMetric(), MeanMetric()
        self.tokens_seen = 0

    def training_step(self, batch: StepPack, index: int) -> torch.Tensor:
        out = pack_loss(self.model, batch.pack, self.attention)
        if not torch.isfinite(out.total):
            rows = ", ".join(map(str, batch.pack.rows[:8]))
            raise SqError(
                f"the loss is {float(out.total)} at step {self.global_step} (rows {rows}, …). The last good checkpoint "
                "is kept; lower stage.lr, or train in fp32 (trainer.precision=fp32)"
            )
        self.train_loss.update(out.total.detach() / out.count, weight=out.count)
        self.train_accuracy.update(out.correct / out.count, weight=out.count)
        self.tokens_seen += batch.pack.tokens
        # Lightning divides by the packs accumulated and averages over processes; the step's own count is exact.
        return out.total * (self.trainer.accumulate_grad_batches * self.trainer.world_size) / batch.step_tokens

    def validation_step(self, batch: StepPack, index: int) -> None:
        out = pack_loss(self.model, batch.pack, self.attention)
        self.val_loss.update(out.total / out.count, weight=out.count)
        self.val_accuracy.update(out.correct / out.count, weight=out.count)

    def train_figures(self) -> dict[str, float]:
        """Figures since the last call."""
        loss, accuracy = float(self.train_loss.compute()), float(self.train_accuracy.compute())
        self.train_loss.reset()
        self.train_accuracy.reset()
        return _figures("train", loss, accuracy)

    def validation_figures(self) -> dict[str, float]:
        """Figures of the validation pass just ended."""
        loss, accuracy = float(self.val_loss.compute()), float(self.val_accuracy.compute())
        self.val_loss.reset()
        self.val_accuracy.reset()
        return _figures("val", loss, accuracy)

    def configure_optimizers(self) -> Any:
        decay = [p for p in self.model.parameters() if p.requires_grad and p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.requires_grad and p.ndim < 2]
        groups = [{"params": decay, "weight_decay": self.config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        betas = (0.9, self.config.beta2)
        low = any(p.dtype is not torch.float32 for p in (*decay, *plain))
        optimizer: torch.optim.Optimizer = (
            MasterAdamW(groups, self.config.lr, betas) if low else torch.optim.AdamW(groups, self.config.lr, betas, fused=True)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(self.config, step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def lr_factor(config: StageConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate at `step`: linear warm-up, then the schedule, to 0 at the end."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    if config.schedule is Schedule.COSINE:
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if config.schedule is Schedule.LINEAR else 1.0


def _figures(prefix: str, loss: float, accuracy: float) -> dict[str, float]:
    return {
        f"{prefix}/loss": loss,
        f"{prefix}/perplexity": math.exp(min(loss, 50)),
        f"{prefix}/token_accuracy": accuracy,
    }
