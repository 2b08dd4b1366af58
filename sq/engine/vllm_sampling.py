"""Our top-p inside vLLM, as one of its logits processors: `sq/engine/nucleus.py` on requests that ask for it.

It runs where min-p does: after the temperature, before vLLM's own top-p, which then has nothing left to do (the request
is passed on with top_p = 1).
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from sq.engine.nucleus import keep_nucleus

TOP_P = "sq_top_p"
"""Name of the extra argument of a request that carries its top-p."""


class NucleusProcessor(LogitsProcessor):  # type: ignore[misc]
    """Applies each request's own top-p to its row of the batch."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._top_p: dict[int, float] = {}

    def is_argmax_invariant(self) -> bool:
        """The likeliest token always stays."""
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests as they come, go and change places."""
        if batch_update is None:
            return
        table = self._top_p
        for row in batch_update.removed:
            table.pop(row, None)
        for row, params, *_ in batch_update.added:
            _put(table, row, (params.extra_args or {}).get(TOP_P))
        for one, other, direction in batch_update.moved:
            first, second = table.pop(one, None), table.pop(other, None)
            _put(table, other, first)
            if direction is MoveDirectionality.SWAP:
                _put(table, one, second)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask what top-p removes."""
        return keep_nucleus(logits, self._top_p)


def _put(table: dict[int, float], row: int, value: float | None) -> None:
    if value is not None:
        table[row] = value
    else:
        table.pop(row, None)
