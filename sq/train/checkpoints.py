"""Checkpoints: the whole state every so many steps (after a look at the held-out rows) and minutes, and on a signal.

The last k and the best stay. Each is written under a temporary name, made durable and renamed, so that a kill at any
moment leaves whole ones only.
What is needed to go on is in them: weights, optimiser, schedule, step. The data's position and all random numbers
follow from the step.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from sq.core.files import sync_directory, write_files
from sq.train.config import TrainerConfig
from sq.train.shard import REST, ShardStrategy

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
        self.seconds = 60 * config.checkpoint_minutes
        self._step = -1
        self._time = 0.0
        self._signals = Signals()
        self._group: Any = None
        self._writing: tuple[Path, Path, float | None] | None = None

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self._step = trainer.global_step
        self._time = time.monotonic()
        if trainer.is_global_zero:  # nobody saves before all have agreed on a step
            for left in self.directory.glob(".step-*.tmp"):  # of a run that was killed while it wrote
                _remove(left)
        self._signals.listen()
        if trainer.world_size > 1 and dist.get_backend() != "gloo":
            self._group = dist.new_group(backend="gloo")  # what is agreed on must not wait for the GPU

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step == self._step:
            return
        self._step = step
        if self._writing is not None and trainer.is_global_zero and _written(trainer):
            self._put_in_place(*self._writing)
        wish = self._agreed(trainer)
        if step % self.every == 0 and step < trainer.max_steps:
            self.save(trainer, self.validate(trainer, module))
        elif wish is Wish.STOP or (wish is Wish.SAVE and step < trainer.max_steps):
            self.save(trainer, {})
        if wish is Wish.STOP:
            self._stop(trainer)

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        self.finish(trainer)
        self._signals.forget()
        self.stop_if_asked(trainer)

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        self._signals.forget()

    def save(self, trainer: L.Trainer, metrics: dict[str, float]) -> None:
        """Write a checkpoint of this moment; all processes take part. Shards are written while training goes on."""
        self.finish(trainer)
        module: Any = trainer.lightning_module
        module.check_finite()
        self.directory.mkdir(parents=True, exist_ok=True)
        step = trainer.global_step
        temporary, final = self.directory / f".step-{step:08d}.tmp", self.directory / f"step-{step:08d}.ckpt"
        trainer.save_checkpoint(temporary)
        self._writing = temporary, final, metrics.get("val/loss")
        self._time = time.monotonic()
        if not isinstance(trainer.strategy, ShardStrategy):
            self.finish(trainer)

    def stop_if_asked(self, trainer: L.Trainer) -> None:
        """After SIGTERM, save this moment, beyond the last step, and end; all processes take part."""
        if self._agreed(trainer) is Wish.STOP:
            self.save(trainer, {})
            self._stop(trainer)

    def _stop(self, trainer: L.Trainer) -> None:
        self.finish(trainer)
        self._signals.stop(first=trainer.is_global_zero)

    def _agreed(self, trainer: L.Trainer) -> Wish:
        """What the processes want now, the same in all of them: the clock of any, a signal to any."""
        late = time.monotonic() - self._time >= self.seconds
        wish = max(self._signals.wish(), Wish.SAVE if late else Wish.NONE)
        if trainer.world_size == 1:
            return wish
        wishes = torch.tensor(wish.value)
        dist.all_reduce(wishes, dist.ReduceOp.MAX, group=self._group)
        return Wish(int(wishes))

    def finish(self, trainer: L.Trainer) -> None:
        """Wait for the checkpoint that is being written; all processes take part."""
        if self._writing is None:
            return
        _written(trainer, wait=True)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            self._put_in_place(*self._writing)
        self._writing = None
        trainer.strategy.barrier()

    def _put_in_place(self, temporary: Path, final: Path, loss: float | None) -> None:
        if not temporary.exists():  # it has been
            return
        _sync(temporary)
        _remove(final)
        os.replace(temporary, final)
        sync_directory(self.directory)
        self._note_best(final.name, loss)
        self._prune()

    def _note_best(self, name: str, loss: float | None) -> None:
        best = best_checkpoint(self.directory)
        if loss is not None and (best is None or loss < best[1]):
            write_files(self.directory, {BEST: json.dumps({"name": name, "val/loss": loss}).encode()})

    def _prune(self) -> None:
        best = best_checkpoint(self.directory)
        for old in checkpoints(self.directory)[: -self.keep]:
            if best is None or old.name != best[0].name:
                _remove(old)


class Wish(IntEnum):
    """What is wanted after a step, the stronger the greater."""

    NONE = 0
    SAVE = 1
    STOP = 2


class Signals:
    """SIGUSR1, which SLURM can send before a job's time is up, wants a checkpoint; SIGTERM wants one and an end."""

    def __init__(self) -> None:
        self._wish = Wish.NONE
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._take) for n in (signal.SIGTERM, signal.SIGUSR1)}

    def forget(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def wish(self) -> Wish:
        """What they want; a checkpoint is wanted once."""
        wish = self._wish
        if wish is Wish.SAVE:
            self._wish = Wish.NONE
        return wish

    def stop(self, *, first: bool) -> None:
        """End as SIGTERM would have ended this process. The others wait for the first one, which ends them."""
        if not first:
            time.sleep(10)
        self.forget()
        signal.raise_signal(signal.SIGTERM)

    def _take(self, number: int, frame: Any) -> None:
        self._wish = max(self._wish, Wish.STOP if number == signal.SIGTERM else Wish.SAVE)
        if number == signal.SIGTERM:  # a second one does not wait for the step's end
            signal.signal(number, self._before[number])


def _written(trainer: L.Trainer, *, wait: bool = False) -> bool:
    """Whether the last checkpoint has been written: at once, but for shards."""
    strategy = trainer.strategy
    return not isinstance(strategy, ShardStrategy) or strategy.saved(wait=wait)


def checkpoints(directory: Path) -> list[Path]:
    """All whole checkpoints, oldest first."""
    return sorted(directory.glob("step-*.ckpt"))


def last_checkpoint(directory: Path) -> Path | None:
    """The checkpoint that training goes on from."""
    return max(checkpoints(directory), default=None, key=step_of)


def readers(checkpoint: Path) -> tuple[str, ...]:
    """The strategies that can go on from a checkpoint."""
    if checkpoint.is_file():
        return "auto", "ddp"
    return ("fsdp",) if (checkpoint / REST).exists() else ("deepspeed",)


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
    if path.is_dir():  # FSDP's and DeepSpeed's are directories
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
