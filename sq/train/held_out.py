"""Held-out rows that a metric needs all at once, from all processes: a rank correlation is no mean of parts.

Processes have different numbers of them, some none, and torchmetrics' own gathering fails there or waits for ever. So
the rows are brought together here, and metrics are computed of the whole on every process.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed


class HeldOutRows:
    """Columns of numbers, one entry a row."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def add(self, *columns: Tensor) -> None:
        """Keep some rows of this process."""
        self._parts.append(torch.stack([column.detach().float() for column in columns]).cpu())

    def take(self) -> Tensor | None:
        """[columns, rows] of all processes (which must all call), and forget them; None where there are none."""
        parts, self._parts = self._parts, []
        if distributed.is_available() and distributed.is_initialized():
            everyone: list[list[Tensor]] = [[] for _ in range(distributed.get_world_size())]
            distributed.all_gather_object(everyone, parts)
            parts = [part for theirs in everyone for part in theirs]
        return torch.cat(parts, dim=1) if parts else None
