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

from sq.core.errors import SqError
from sq.data.module import StepPack
from sq.train.checkpoints import last_checkpoint
from sq.train.config import TrainerConfig
from sq.train.optim import MasterAdamW, make_optimizer, parameter_groups
from sq.train.rows import TrainingRows
from sq.train.running import HeldOutRows, RunningMean, Watch
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
        self.tokens_seen, self.targets_seen = 0, 0
        self.means: dict[str, dict[str, RunningMean]] = {"train": {}, "val": {}}
        self.watch = Watch()
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
                values=self._sent(torch.tensor(rows.values[items])),
                reference=self._sent(self.reference[kind][items]) if self.reference else None,
                training=kind == "train",
                first_step=kind == "train" and bool(batch.divisor) and self.global_step == 0,
            )
        )
        for name, (value, weight) in out.means.items():
            self.means[kind].setdefault(name, RunningMean()).add(value, weight if batch.divisor else 0.0)
        if kind == "val" and out.held_out and batch.divisor:
            self.held_out.add(*out.held_out)
        return out.total

    def on_train_batch_start(self, batch: StepPack, batch_idx: int) -> None:
        # Random numbers are a function of the pack: a resumed run draws the same, on any number of processes.
        torch.manual_seed(hash((self.seed, batch.number, 0)) & (2**63 - 1))

    def training_step(self, batch: StepPack, index: int) -> Tensor:
        total: Tensor = self(batch, "train")
        self.watch.loss(total.detach(), self.global_step, batch.pack.rows)
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
            if mean.weighed:
                means[name] = mean.take(self.device)
        columns = self.held_out.take() if kind == "val" else None
        return {f"{kind}/{name}": value for name, value in self.loss.metrics(kind, means, columns).items()}

    def configure_model(self) -> None:
        if self.config.strategy == "fsdp":
            assert self.device_mesh is not None
            mesh, device = self.device_mesh["data_parallel"], self.trainer.strategy.root_device
            shard(self, self.model, self.head, self.config.precision, mesh, device)

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
        self.watch.norm(norm, self.global_step)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.config.strategy == "deepspeed":
            norm = self.trainer.model.get_global_grad_norm()  # type: ignore[union-attr,operator]
            if norm is not None:
                self.watch.norm(torch.as_tensor(norm), self.global_step)

    def check_finite(self) -> None:
        """Stop where a loss or a gradient since the last call was no finite number. This waits for the GPU."""
        problem = self.watch.take()
        if problem is None:
            return
        what, step, items = problem
        rows = f", rows {', '.join(self.rows.train.name(i) for i in items[:8])}" if items else ""
        last = last_checkpoint(self.checkpoints)
        good = "There is no checkpoint yet" if last is None else f"The last checkpoint, {last}, is good"
        raise SqError(
            f"{what} at step {step}{rows}{' …' if len(items) > 8 else ''}. {good}; lower stage.lr, or "
            "train in fp32 (trainer.precision=fp32), in another output_dir"
        )

    def _sent(self, values: Tensor) -> Tensor:
        """Numbers of a pack where the model is, without waiting until they are."""
        return values.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else values

    def masters(self) -> dict[str, Tensor]:
        """The fp32 weights by name, where the module's own are those rounded."""
        optimizer = getattr(self.optimizers(), "optimizer", None)
        return optimizer.named_masters(self) if isinstance(optimizer, MasterAdamW) else {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= self.masters()  # the optimiser's, stored once
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
