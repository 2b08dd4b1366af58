"""The one level over LightningModule: optimiser, schedule, exact normalisation, and what is measured.

A stage's module says what the loss of a pack is. It is summed, and divided by the figure of the whole optimiser step
that comes with the pack, so micro-batches and devices do not change the result.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor
from torchmetrics import MeanMetric
from transformers import PreTrainedModel

from sq.core.errors import SqError
from sq.data.module import StepPack
from sq.models.attention import Attention
from sq.models.fused import HeadChoice, HeadKernel, choose_head
from sq.models.pack import Pack
from sq.models.packed_forward import pack_loss
from sq.train.checkpoints import checkpoints, step_of
from sq.train.config import Precision, TrainJob
from sq.train.optim import make_optimizer, parameter_groups
from sq.train.rows import TrainingRows
from sq.train.shard import shard
from sq.train.stages import Schedule, StageConfig


class BaseModule(L.LightningModule):
    """Trains `model` on packs; `steps` is the length of the whole schedule."""

    metric_names: ClassVar[tuple[str, ...]] = ("loss",)
    """Means that are kept for training ("train") and validation ("val")."""
    keep_last: ClassVar[bool] = False
    """Whether packs keep each row's last token in the input."""

    def __init__(
        self, job: TrainJob, model: PreTrainedModel, attention: Attention, data: TrainingRows, steps: int
    ) -> None:
        super().__init__()
        self.job, self.stage, self.steps, self.data = job, job.stage, steps, data
        self.model, self.attention = model, attention
        self.reference: dict[str, Tensor] = {}
        self.reference_pass = False
        self.head_choice = HeadChoice(kernel=HeadKernel.CHUNKED, reason="the stage's loss needs it")
        self.tokens_seen, self.targets_seen, self.grad_norm = 0, 0, 0.0
        self.means = torch.nn.ModuleDict(
            {f"{k}_{n}": MeanMetric() for k in ("train", "val") for n in self.metric_names}
        )
        self.strict_loading = not job.trainer.lora.rank
        self.prepare()

    def prepare(self) -> None:
        """What a stage does to its model before training."""

    def loss_of(self, batch: StepPack, kind: str) -> Tensor:
        """The pack's loss, summed over what `divisor` counts; `kind` is "train" or "val"."""
        raise TypeError(f"{type(self).__name__} has no loss")

    def divisor(self, items: Any) -> float:
        """What the loss of these items is divided by: here their number."""
        return float(len(items))

    def reference_of(self, pack: Pack) -> Tensor:
        """What is computed once of every pack before training, where a stage needs that."""
        raise TypeError(f"{type(self).__name__} has no reference")

    def forward(self, batch: StepPack, kind: str) -> Tensor:
        return self.reference_of(batch.pack) if kind == "reference" else self.loss_of(batch, kind)

    def on_train_batch_start(self, batch: StepPack, batch_idx: int) -> None:
        # Random numbers are a function of the pack: a resumed run draws the same, on any number of processes.
        torch.manual_seed(hash((self.job.seed, batch.number, 0)) & (2**63 - 1))

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
        if self.job.trainer.strategy == "deepspeed":  # whose engine divides by them once more
            divided *= divided
        return total * (divided * self.trainer.world_size / batch.divisor)

    def validation_step(self, batch: StepPack, index: int) -> Tensor:
        return self(batch, "reference" if self.reference_pass else "val")  # type: ignore[no-any-return]

    def metric(self, kind: str, name: str) -> MeanMetric:
        """The running mean of a figure."""
        found = self.means[f"{kind}_{name}"]
        assert isinstance(found, MeanMetric)
        return found

    def metrics(self, kind: str) -> dict[str, float]:
        """The means since the last call, over all processes (which must all call)."""
        found = {}
        for name in self.metric_names:
            mean = self.metric(kind, name)
            if not mean.update_called:  # a kernel of others does not tell every figure
                continue
            found[f"{kind}/{name}"] = float(mean.compute())
            mean.reset()
        return found

    def tables(self) -> dict[str, list[dict[str, float]]]:
        """What is told of the last look at held-out rows beyond single figures."""
        return {}

    def configure_model(self) -> None:
        if self.job.trainer.strategy == "fsdp":
            assert self.device_mesh is not None
            shard(self, self.model, self.job.trainer.precision, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.model, self.stage.weight_decay) + self.extra_groups()
        optimizer = make_optimizer(groups, self.stage)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(self.stage, step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def extra_groups(self) -> list[dict[str, Any]]:
        """Parameters beside the model's."""
        return []

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        if self.job.trainer.strategy == "deepspeed":  # its engine clips, in its step
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.stage.grad_clip or math.inf)
        if isinstance(norm, torch.distributed.tensor.DTensor):
            norm = norm.full_tensor()
        self._take_norm(float(norm))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.job.trainer.strategy == "deepspeed":
            norm = self.trainer.model.get_global_grad_norm()  # type: ignore[union-attr,operator]
            if norm is not None:
                self._take_norm(float(norm))

    def _take_norm(self, norm: float) -> None:
        self.grad_norm = norm
        if not math.isfinite(norm):
            self._stop(f"the gradient's norm is {norm}", None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.job.trainer.lora.rank:  # the frozen weights are where they were
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
        rows = "" if pack is None else ", rows " + ", ".join(self.data.train.name(i) for i in pack.rows[:8])
        more = " …" if pack is not None and len(pack.rows) > 8 else ""
        last = max(checkpoints(Path(self.job.output_dir) / "checkpoints"), default=None, key=step_of)
        good = "There is no checkpoint yet" if last is None else f"The last checkpoint, {last}, is good"
        raise SqError(
            f"{what} at step {self.global_step}{rows}{more}. {good}; lower stage.lr, or "
            "train in fp32 (trainer.precision=fp32), in another output_dir"
        )


class TokenModule(BaseModule):
    """A stage whose loss is cross-entropy over supervised tokens."""

    metric_names = ("loss", "token_accuracy")

    def prepare(self) -> None:
        half = self.job.trainer.precision is not Precision.FP32
        self.head_choice = choose_head(self.model, HeadKernel(self.job.trainer.head), half=half)

    def divisor(self, items: Any) -> float:
        return float(sum(self.data.train.supervised(i) for i in items))

    def loss_of(self, batch: StepPack, kind: str) -> Tensor:
        out = pack_loss(self.model, batch.pack, self.attention, self.head_choice.kernel)
        weight = out.count if batch.divisor else 0
        self.metric(kind, "loss").update(out.total.detach() / out.count, weight=weight)
        if out.correct is not None:
            self.metric(kind, "token_accuracy").update(out.correct / out.count, weight=weight)
        return out.total

    def metrics(self, kind: str) -> dict[str, float]:
        found = super().metrics(kind)
        return found | {f"{kind}/perplexity": math.exp(min(found[f"{kind}/loss"], 50))}


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
