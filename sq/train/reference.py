"""Reference log-probabilities: once, before the first step, by the model itself while it still is the reference.

No second model is held. They are computed in the very packs of training, because sums in another packing round another
way, and cached by weights and data; a resumed run, whose model has moved on, must find them there.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file, save_file
from torch import Tensor

from sq.core.count import count_noun
from sq.core.errors import SqError
from sq.data.module import PackLoader
from sq.train.progress import on_device

log = logging.getLogger(__name__)


class References(Callback):
    """Gives the module its reference before training starts."""

    def __init__(self, loaders: dict[str, PackLoader], path: Path) -> None:
        self.loaders, self.path = loaders, path

    def state_dict(self) -> dict[str, Any]:
        return {"name": self.path.name}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.path = self.path.with_name(state_dict["name"])  # as the run began, though its hardware may have changed

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        cached = trainer.strategy.broadcast(self.path.exists())
        if cached:
            values = load_file(self.path)
            log.info("reference log-probabilities: from %s", self.path)
        elif trainer.global_step:
            raise SqError(
                f"this run was stopped at step {trainer.global_step}, and its reference log-probabilities {self.path} "
                "are gone; they cannot be made from weights that have moved. Delete "
                f"{module.checkpoints.parent} and start again"
            )
        else:
            started = time.monotonic()
            values = {kind: _computed(trainer, module, loader) for kind, loader in self.loaders.items()}
            if trainer.is_global_zero:
                _save(values, self.path)
            trainer.strategy.barrier()
            pairs = sum(len(part) for part in values.values())
            log.info("reference log-probabilities of %s: %.1f s", count_noun(pairs, "pair"), time.monotonic() - started)
        module.reference = values


@torch.no_grad()
def _computed(trainer: L.Trainer, module: Any, loader: PackLoader) -> Tensor:
    """[pairs, 2] log-probabilities of chosen and rejected, gathered from all processes."""
    module.reference_pass = True
    values = torch.zeros(len(loader.rows), 2, dtype=torch.float64, device=module.device)
    for index, batch in enumerate(on_device(trainer, loader.once())):
        logps = trainer.strategy.validation_step(batch, index)
        assert isinstance(logps, Tensor)
        if batch.divisor:
            values[list(batch.pack.rows)] = logps.view(-1, 2)
    module.reference_pass = False
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)  # every pair has been computed by one process and is zero in the others
    return values.cpu()


def _save(values: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(values, temporary)
    os.replace(temporary, path)
