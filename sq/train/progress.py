"""What a person sees of training: steps, rate, loss and time left; metrics to MLflow; model FLOP utilisation."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from sq.core.count import count_noun
from sq.core.metrics import TRAINING, format_value
from sq.core.progress import Progress
from sq.core.tracking import Run
from sq.data.module import PackLoader
from sq.models.adapters import size
from sq.train.module import TrainingModule, warmup_steps
from sq.train.packs import TrainingPacks

PEAKS = {
    "GB200": 2500, "B200": 2250, "GH200": 989, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H800": 989,
    "H20": 148, "A100": 312, "A800": 312, "L40S": 362, "L40": 181, "L4": 121, "A10G": 70, "A10": 125, "A40": 150,
    "A6000": 155, "RTX 5090": 209, "RTX 4090": 165, "RTX 3090": 71, "V100": 125,
}  # fmt: skip
"""Dense bf16 TFLOP/s of a GPU (V100, fp16) by a part of its name, from the makers' data sheets; the first that fits."""


class TrainingProgress(Callback):
    """Progress and metrics; `final` holds the last ones of training."""

    def __init__(self, run: Run, directory: Path, *, every: int, steps: int) -> None:
        self.run, self.directory, self.every, self.steps = run, directory, every, steps
        self.final: dict[str, float] = {}
        self._progress: Progress | None = None
        self._mark = (0.0, 0, 0)
        self._flops = (0, 0)
        self._step = -1
        self._lr = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"final": self.final}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.final = state_dict["final"]

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self._progress = Progress(
            self.directory, module.stage.name, "step", total=self.steps, done=trainer.global_step,
            enabled=trainer.is_global_zero,
        )  # fmt: skip
        self._mark, self._step = (time.monotonic(), module.tokens_seen, module.targets_seen), trainer.global_step
        self._flops = flops_per_token(module.model)

    def on_before_optimizer_step(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
        self._lr = optimizer.param_groups[0]["lr"]  # of this step: the schedule moves on before the batch ends

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step == self._step:
            return
        new, self._step = step - self._step, step
        note = self._report(trainer, module, step) if step % self.every == 0 or step == self.steps else None
        if self._progress is not None:
            self._progress.update(new, note=note)

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        if self._progress is not None:
            self._progress.close()

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        if self._progress is not None:
            self._progress.close(ended_well=False)

    def _report(self, trainer: L.Trainer, module: Any, step: int) -> str:
        """Log the metrics; in short, what a person watches."""
        now, (then, tokens, targets) = time.monotonic(), self._mark
        seconds = max(now - then, 1e-9)
        rate = (module.tokens_seen - tokens) / seconds
        module.check_finite()
        metrics = module.metrics("train")
        metrics["train/tokens_per_s"] = rate * trainer.world_size
        metrics["train/lr"] = self._lr
        metrics["train/grad_norm"] = 0.0 if module.watch.grad_norm is None else float(module.watch.grad_norm)
        if module.device.type == "cuda":
            metrics["train/memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
            flops = self._flops[0] * rate + self._flops[1] * (module.targets_seen - targets) / seconds
            share = utilisation(flops, torch.cuda.get_device_name(module.device))
            if share is not None:
                metrics["train/mfu"] = share
        self._mark = (now, module.tokens_seen, module.targets_seen)
        self.final = metrics
        printed = {name: format_value(name, value, TRAINING) for name, value in metrics.items()}
        text = f"loss {printed['train/loss']}, {printed['train/tokens_per_s']} tokens/s"
        if "train/mfu" in metrics:
            text += f", {printed['train/mfu']} of the GPU"
        self.run.metrics(metrics, step=step)
        return text


def format_plan(module: TrainingModule, packs: TrainingPacks) -> str:
    """In one block what is about to happen."""
    trained, rows, stage, trainer = module.trained, module.rows, module.stage, module.config
    parameters = list(trained.model.parameters())
    total = sum(size(p) for p in parameters)
    share = sum(p.numel() for p in parameters if p.requires_grad) / total
    plan, packing, steps, attention = packs.plan, packs.plan.packing, packs.train.steps, trained.attention
    unit = "pair" if rows.train.segments == 2 else "row"
    devices = "device" if trainer.world == 1 else f"devices, {trainer.strategy}"
    shared = f", a prefix of {plan.prefix} tokens computed once per pack" if plan.prefix else ""
    per_step = round(plan.batch_packs * len(rows.train) / len(packing.packs))
    return (
        f"{stage.name} of {trained.name}\n"
        f"  model      {total:,} parameters, {100 * share:.4g}% trainable, {trainer.precision.name.lower()} on "
        f"{trainer.world} {devices}\n"
        f"  data       {count_noun(len(rows.train), unit)} ({len(rows.held_out):,} held out) in "
        f"{count_noun(len(packing.packs), 'pack')} of {packing.capacity:,} tokens, {packing.efficiency:.1%} full\n"
        f"  steps      {steps:,} of {count_noun(plan.batch_packs, 'pack')} (about {count_noun(per_step, unit)}), "
        f"warm-up {warmup_steps(stage, steps)}, peak lr {stage.lr:g}, {stage.schedule.value}, {stage.optimizer.value}\n"
        f"  attention  {attention.kernel.value}{shared} ({attention.reason})\n"
        f"  head       {trained.head.kernel.value}, at supervised positions only ({trained.head.reason})"
    )


def one_step(module: TrainingModule, packs: TrainingPacks) -> str:
    """What a training of one optimiser step in all says, with a way out."""
    stage, rows = module.stage, count_noun(len(module.rows.train), "row")
    count = count_noun(len(packs.plan.packing.packs), "pack")
    batch = f"batch_rows={stage.batch_rows}" if stage.batch_rows else f"batch_packs={packs.plan.batch_packs}"
    fewer = "" if packs.plan.batch_packs == 1 else "stage.batch_packs=1, "
    if stage.max_steps == 1:
        return f"{stage.name} takes one optimiser step in all, as stage.max_steps=1 says: leave it out for more"
    return (
        f"{stage.name} takes one optimiser step in all: {rows} in {count} of {stage.pack_tokens:,} tokens, "
        f"stage.{batch}. For more steps give {fewer}a smaller stage.pack_tokens, a larger stage.epochs, or more rows"
    )


def validate(trainer: L.Trainer, module: Any, loader: PackLoader | None) -> dict[str, float]:
    """The metrics of a pass over the held-out rows; none where no row is held out. All processes take part."""
    if loader is None:
        return {}
    module.eval()  # no dropout in what is compared
    with torch.no_grad():
        for index, batch in enumerate(on_device(trainer, loader.once())):
            trainer.strategy.validation_step(batch, index)
    module.train()
    return dict(module.metrics("val"))


def on_device(trainer: L.Trainer, batches: Iterable[Any]) -> Iterable[Any]:
    """The batches, moved to where the model is."""
    return (trainer.strategy.batch_to_device(batch) for batch in batches)


def flops_per_token(model: Any) -> tuple[int, int]:
    """FLOPs of training on a token, in the body and (where it is supervised) in the head.

    Two a weight in the forward pass, two for the gradient of what goes in, and two for its own where it is trained:
    matrices only, an embedding is looked up. Attention's own products are left out: few, where rows are short.
    """
    ends = [m for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None]
    apart = {id(p) for m in ends for p in m.parameters()}
    body = sum((6 if p.requires_grad else 4) * size(p) for p in model.parameters() if id(p) not in apart)
    output = model.get_output_embeddings()
    head = 0 if output is None else sum((6 if p.requires_grad else 4) * size(p) for p in output.parameters())
    return body, head


def peak_flops(gpu: str) -> float | None:
    """Dense bf16 FLOP/s of a GPU by its name; None where it is not in the table."""
    tera = next((tera for part, tera in PEAKS.items() if part in gpu), None)
    return None if tera is None else tera * 1e12


def utilisation(flops_per_second: float, gpu: str) -> float | None:
    """Share of a GPU's bf16 peak that the model's own arithmetic uses; recomputed activations are not counted."""
    peak = peak_flops(gpu)
    return None if peak is None else flops_per_second / peak
