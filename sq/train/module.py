"""The LightningModule of every stage: optimiser, schedule, exact normalisation, and what is measured.

The stage's loss of a pack is summed, and divided by the divisor of the whole optimiser step that comes with the pack,
so micro-batches and devices do not change the result.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from sq.core.errors import SqError
from sq.data.module import StepPack
from sq.models.pack import Pack
from sq.train.checkpoints import checkpoints, step_of
from sq.train.config import TrainerConfig
from sq.train.held_out import HeldOutRows
from sq.train.optim import make_optimizer, parameter_groups
from sq.train.rows import TrainingRows
from sq.train.shard import shard
from sq.train.stage import LossInput, Schedule, StageConfig, StageLoss, TrainableModel


class TrainingModule(L.LightningModule):
    """Trains a model on packs with the loss of its stage; `steps` is the length of the whole schedule."""

    def __init__(
        self, trained: TrainableModel, loss: StageLoss, rows: TrainingRows, *,
        stage: StageConfig, trainer: TrainerConfig, steps: int, seed: int, checkpoints: Path,
    ) -> None:  # fmt: skip
        super().__init__()
        self.trained, self.model, self.head, self.loss, self.rows = trained, trained.model, loss.head, loss, rows
        self.stage, self.config, self.steps, self.seed, self.checkpoints = stage, trainer, steps, seed, checkpoints
        self.reference: dict[str, Tensor] = {}
        self.reference_pass = False
        self.tokens_seen, self.targets_seen, self.grad_norm = 0, 0, 0.0
        self.means: dict[str, dict[str, MeanMetric]] = {"train": {}, "val": {}}
        self.held_out = HeldOutRows()
        self.strict_loading = not trainer.lora.rank

    def forward(self, batch: StepPack, kind: str) -> Tensor:
        """The pack's loss, for "train" or "val"; what is computed of it before training, for "reference"."""
        if kind == "reference":
            return self.loss.reference(batch.pack)
        items = list(batch.pack.rows)
        rows = self.rows.train if kind == "train" else self.rows.held_out
        out = self.loss(
            LossInput(
                pack=batch.pack,
                values=torch.tensor(rows.values[items], device=self.device),
                reference=self.reference[kind][items] if self.reference else None,
                training=kind == "train",
                first_step=kind == "train" and bool(batch.divisor) and self.global_step == 0,
            )
        )
        for name, (value, weight) in out.means.items():
            mean = self.means[kind].setdefault(name, MeanMetric().to(self.device))
            mean.update(value, weight=weight if batch.divisor else 0)
        if kind == "val" and out.held_out and batch.divisor:
            self.held_out.add(*out.held_out)
        return out.total

    def on_train_batch_start(self, batch: StepPack, batch_idx: int) -> None:
        # Random numbers are a function of the pack: a resumed run draws the same, on any number of processes.
        torch.manual_seed(hash((self.seed, batch.number, 0)) & (2**63 - 1))

    def training_step(self, batch: StepPack, index: int) -> Tensor:
        total: Tensor = self(batch, "train")
        if not torch.isfinite(total):
            self._stop(f"the loss is {float(total.detach())}", batch.pack)
        if not batch.divisor:
            return total * 0
        self.tokens_seen += batch.pack.tokens
        self.targets_seen += batch.pack.supervised
        # Lightning divides by the packs accumulated and averages over processes; the step's own divisor is exact.
        divided = self.trainer.accumulate_grad_batches
        if self.config.strategy == "deepspeed":  # whose engine divides by them once more
            divided *= divided
        return total * (divided * self.trainer.world_size / batch.divisor)

    def validation_step(self, batch: StepPack, index: int) -> Tensor:
        return self(batch, "reference" if self.reference_pass else "val")  # type: ignore[no-any-return]

    def metrics(self, kind: str) -> dict[str, float]:
        """The metrics since the last call, over all processes (which must all call)."""
        means = {}
        for name, mean in self.means[kind].items():
            if mean.update_called:
                means[name] = float(mean.compute())
                mean.reset()
        columns = self.held_out.take() if kind == "val" else None
        return {f"{kind}/{name}": value for name, value in self.loss.metrics(kind, means, columns).items()}

    def configure_model(self) -> None:
        if self.config.strategy == "fsdp":
            assert self.device_mesh is not None
            shard(self, self.model, self.config.precision, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.model, self.stage.weight_decay)
        if self.head is not None:
            lr = self.loss.head_lr or self.stage.lr
            groups.append({"params": list(self.head.parameters()), "weight_decay": 0.0, "lr": lr})
        optimizer = make_optimizer(groups, self.stage)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(self.stage, step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        if self.config.strategy == "deepspeed":  # its engine clips, in its step
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.stage.grad_clip or math.inf)
        if isinstance(norm, torch.distributed.tensor.DTensor):
            norm = norm.full_tensor()
        self._take_norm(float(norm))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.config.strategy == "deepspeed":
            norm = self.trainer.model.get_global_grad_norm()  # type: ignore[union-attr,operator]
            if norm is not None:
                self._take_norm(float(norm))

    def _take_norm(self, norm: float) -> None:
        self.grad_norm = norm
        if not math.isfinite(norm):
            self._stop(f"the gradient's norm is {norm}", None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.config.lora.rank:  # the frozen weights are where they were
            trained = {name for name, p in self.named_parameters() if p.requires_grad}
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: state[name] for name in state if name in trained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Lightning counts the packs of one process, of which another number of processes has another number in a step.
        packs = checkpoint["global_step"] * self.trainer.accumulate_grad_batches
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            moved = packs - counts["ready"]
            counts.update({name: count + moved for name, count in counts.items()})

    def _stop(self, what: str, pack: Pack | None) -> None:
        rows = "" if pack is None else ", rows " + ", ".join(self.rows.train.name(i) for i in pack.rows[:8])
        more = " …" if pack is not None and len(pack.rows) > 8 else ""
        last = max(checkpoints(self.checkpoints), default=None, key=step_of)
        good = "There is no checkpoint yet" if last is None else f"The last checkpoint, {last}, is good"
        raise SqError(
            f"{what} at step {self.global_step}{rows}{more}. {good}; lower stage.lr, or "
            "train in fp32 (trainer.precision=fp32), in another output_dir"
        )


def lr_factor(stage: StageConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate at `step`: linear warm-up, then the schedule, to 0 at the end."""
    warmup = warmup_steps(stage, steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    if stage.schedule is Schedule.COSINE:
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if stage.schedule is Schedule.LINEAR else 1.0


def warmup_steps(stage: StageConfig, steps: int) -> int:
    """How many steps the learning rate rises."""
    return round(stage.warmup * steps) if stage.warmup_steps is None else min(stage.warmup_steps, steps)
