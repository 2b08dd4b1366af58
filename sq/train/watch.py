"""What a person sees of training: a bar with rate, loss and time left; figures to MLflow; model FLOP utilisation."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from sq.core.tracking import Run
from sq.data.module import PackLoader

PEAKS = {
    "B200": 2250,
    "H200": 989,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "4090": 165,
    "V100": 125,
}
"""Dense bf16 TFLOP/s of a GPU by a part of its name, from the makers' data sheets."""


class Watch(Callback):
    """Progress and figures; `final` holds the last training figures."""

    def __init__(self, run: Run, *, every: int, steps: int) -> None:
        self.run, self.every, self.steps = run, every, steps
        self.final: dict[str, float] = {}
        self._bar: Any = None
        self._mark = (0.0, 0)
        self._step = -1

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        shown = not trainer.is_global_zero
        self._bar = tqdm(
            total=self.steps,
            initial=trainer.global_step,
            unit="step",
            dynamic_ncols=True,
            mininterval=1.0,
            disable=shown,
        )
        self._mark, self._step = (time.monotonic(), module.tokens_seen), trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step == self._step:
            return
        self._bar.update(step - self._step)
        self._step = step
        if step % self.every == 0 or step == self.steps:
            self._report(trainer, module, step)

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        self.on_train_end(trainer, module)

    def _report(self, trainer: L.Trainer, module: Any, step: int) -> None:
        now, (then, tokens) = time.monotonic(), self._mark
        rate = (module.tokens_seen - tokens) / max(now - then, 1e-9)
        figures = module.figures("train")
        figures["train/tokens_per_s"] = rate * trainer.world_size
        figures["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        figures["train/grad_norm"] = module.grad_norm
        if module.device.type == "cuda":
            figures["train/memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
            figures["train/mfu"] = utilisation(module.parameter_count, rate)
        self._mark = (now, module.tokens_seen)
        self.final = figures
        shown = f"loss {figures['train/loss']:.4f}, {figures['train/tokens_per_s']:,.0f} tokens/s"
        if "train/mfu" in figures:
            shown += f", {figures['train/mfu']:.0%} of the GPU"
        self._bar.set_postfix_str(shown)
        self.run.metrics(figures, step=step)


def validate(trainer: L.Trainer, module: Any, loader: PackLoader | None) -> dict[str, float]:
    """The figures of a pass over the held-out rows; none where no row is held out. All processes take part."""
    if loader is None:
        return {}
    with torch.no_grad():
        for index, batch in enumerate(on_device(trainer, loader.once())):
            trainer.strategy.validation_step(batch, index)
    return dict(module.figures("val"))


def on_device(trainer: L.Trainer, batches: Iterable[Any]) -> Iterable[Any]:
    """The batches, moved to where the model is."""
    return (trainer.strategy.batch_to_device(batch) for batch in batches)


def utilisation(parameters: int, tokens_per_second: float) -> float:
    """Share of the GPU's bf16 peak that forward and backward of a token (6 FLOPs a parameter) use; NaN if unknown."""
    name = torch.cuda.get_device_name()
    peak = next((tera for part, tera in PEAKS.items() if part in name), None)
    return 6 * parameters * tokens_per_second / (peak * 1e12) if peak else float("nan")
