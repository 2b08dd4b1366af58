"""Checkpoints: the whole state every so many steps, after a look at the held-out rows; the last k and the best stay.

Each is written under a temporary name, made durable and renamed, so that a kill at any moment leaves whole ones only.
What is needed to go on is in them: weights, optimiser, schedule, step. The data's position and all random numbers
follow from the step.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from sq.core.files import sync_directory, write_files
from sq.train.config import TrainerConfig

BEST = "best.json"


class Checkpoints(Callback):
    """Writes them, and knows which one is best."""

    def __init__(
        self, directory: Path, config: TrainerConfig, validate: Callable[[L.Trainer, Any], dict[str, float]]
    ) -> None:
        self.directory, self.every, self.keep, self.validate = (
            directory,
            config.checkpoint_every,
            config.keep_checkpoints,
            validate,
        )
        self._step = -1

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step == self._step:
            return
        self._step = step
        if step % self.every == 0 and step < trainer.max_steps:
            self.save(trainer, self.validate(trainer, module))

    def save(self, trainer: L.Trainer, metrics: dict[str, float]) -> None:
        """Write a checkpoint of this moment; all processes take part."""
        self.directory.mkdir(parents=True, exist_ok=True)
        step = trainer.global_step
        temporary, final = self.directory / f".step-{step:08d}.tmp", self.directory / f"step-{step:08d}.ckpt"
        trainer.save_checkpoint(temporary)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            _sync(temporary)
            _remove(final)
            os.replace(temporary, final)
            sync_directory(self.directory)
            self._note_best(final.name, metrics.get("val/loss"))
            self._prune()
        trainer.strategy.barrier()

    def _note_best(self, name: str, loss: float | None) -> None:
        best = best_checkpoint(self.directory)
        if loss is not None and (best is None or loss < best[1]):
            write_files(self.directory, {BEST: json.dumps({"name": name, "val/loss": loss}).encode()})

    def _prune(self) -> None:
        best = best_checkpoint(self.directory)
        for old in checkpoints(self.directory)[: -self.keep]:
            if best is None or old.name != best[0].name:
                _remove(old)
        for left in self.directory.glob(".step-*.tmp"):  # of a run that was killed while it wrote
            _remove(left)


def checkpoints(directory: Path) -> list[Path]:
    """All whole checkpoints, oldest first."""
    return sorted(directory.glob("step-*.ckpt"))


def best_checkpoint(directory: Path) -> tuple[Path, float] | None:
    """The checkpoint with the lowest held-out loss, and that loss."""
    try:
        note = json.loads((directory / BEST).read_text())
    except FileNotFoundError:
        return None
    path = directory / note["name"]
    return (path, float(note["val/loss"])) if path.exists() else None


def step_of(checkpoint: Path) -> int:
    """The optimiser step a checkpoint was written after."""
    return int(checkpoint.stem.removeprefix("step-"))


def _sync(path: Path) -> None:
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():  # DeepSpeed's are directories
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
