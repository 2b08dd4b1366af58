"""What is kept of each pack while training runs, on the device: nothing here waits for it until it is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


class RunningMean:
    """A weighted mean over packs and processes."""

    def __init__(self) -> None:
        self.weighed = False
        self._total: Tensor | float = 0.0
        self._weight: Tensor | float = 0.0

    def add(self, value: Tensor, weight: Tensor | float) -> None:
        """Take in what a pack gave."""
        self._total = self._total + value.detach().float() * weight
        self._weight = self._weight + weight
        self.weighed = True

    def take(self, device: torch.device) -> float:
        """The mean since the last call; all processes must call."""
        sums = torch.stack(
            [torch.as_tensor(x, dtype=torch.float32, device=device) for x in (self._total, self._weight)]
        )
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        total, weight = sums.tolist()
        self.__init__()  # type: ignore[misc]
        return total / weight if weight else math.nan


class HeldOutRows:
    """Held-out rows that a metric needs all at once, from all processes: columns of numbers, one entry a row.

    A rank correlation is no mean of parts. Processes have different numbers of rows, some none, and torchmetrics' own
    gathering fails there or waits for ever. So the rows are brought together here, and metrics are computed of the
    whole on every process.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def add(self, *columns: Tensor) -> None:
        """Keep some rows of this process."""
        self._parts.append(torch.stack([column.detach().float() for column in columns]).cpu())

    def take(self) -> Tensor | None:
        """[columns, rows] of all processes (which must all call), and forget them; None where there are none."""
        parts, self._parts = self._parts, []
        if dist.is_available() and dist.is_initialized():
            everyone: list[list[Tensor]] = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(everyone, parts)
            parts = [part for theirs in everyone for part in theirs]
        return torch.cat(parts, dim=1) if parts else None


class Watch:
    """Whether losses and gradients are finite numbers: the first that is not, with its step and rows."""

    def __init__(self) -> None:
        self.grad_norm: Tensor | None = None
        self._losses: list[tuple[Tensor, int, Sequence[int]]] = []
        self._norms: list[tuple[Tensor, int]] = []

    def loss(self, value: Tensor, step: int, rows: Sequence[int]) -> None:
        """Note a pack's loss."""
        self._losses.append((value, step, rows))

    def norm(self, value: Tensor, step: int) -> None:
        """Note the norm of a step's gradient."""
        self.grad_norm = value.detach()
        self._norms.append((self.grad_norm, step))

    def take(self) -> tuple[str, int, Sequence[int]] | None:
        """What was wrong since the last call, the step, and the rows of the pack where it was a loss."""
        losses, norms = self._losses, self._norms
        self._losses, self._norms = [], []
        for (_, step, rows), value in zip(losses, _numbers([x for x, *_ in losses]), strict=True):
            if not math.isfinite(value):
                return f"the loss is {value}", step, rows
        for (_, step), value in zip(norms, _numbers([x for x, _ in norms]), strict=True):
            if not math.isfinite(value):
                return f"the gradient's norm is {value}", step, ()
        return None


def _numbers(values: Sequence[Tensor]) -> list[float]:
    """All of them in one transfer."""
    return torch.stack(list(values)).tolist() if values else []
