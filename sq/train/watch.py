"""What a person sees of training: a progress bar with rate, loss and time left, figures to MLflow, checkpoints."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from sq.core.tracking import Run
from sq.train.config import TrainerConfig


class Watch(Callback):
    """Progress and figures; `final` holds the last figures when training has ended."""

    def __init__(self, run: Run, *, every: int, steps: int) -> None:
        self.run, self.every, self.steps = run, every, steps
        self.final: dict[str, float] = {}
        self._bar: Any = None
        self._mark = (0.0, 0)
        self._step = -1

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self._bar = tqdm(total=self.steps, initial=trainer.global_step, unit="step", dynamic_ncols=True, mininterval=1.0)
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
        figures = module.train_figures()
        figures["train/tokens_per_s"] = (module.tokens_seen - tokens) * trainer.world_size / max(now - then, 1e-9)
        figures["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        self._mark = (now, module.tokens_seen)
        self.final = figures
        self._bar.set_postfix_str(f"loss {figures['train/loss']:.4f}, {figures['train/tokens_per_s']:,.0f} tokens/s")
        self.run.metrics(figures, step=step)


class Checkpoints(Callback):
    """Every so many steps the whole state goes to a temporary name and is renamed: a kill leaves a whole checkpoint."""

    def __init__(self, directory: Path, config: TrainerConfig) -> None:
        self.directory, self.every, self.keep = directory, config.checkpoint_every, config.keep_checkpoints
        self._step = -1

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step == self._step or step == 0 or step % self.every:
            return
        self._step = step
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = self.directory / f".step-{step}.tmp"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            final = self.directory / f"step-{step:08d}.ckpt"
            os.replace(temporary, final)
            link = self.directory / ".last.tmp"
            link.unlink(missing_ok=True)
            link.symlink_to(final.name)
            os.replace(link, self.directory / "last.ckpt")
            for old in sorted(self.directory.glob("step-*.ckpt"))[: -self.keep]:
                old.unlink()
