"""Sampling inside vLLM on a CPU, as one of its logits processors: `sq/engine/nucleus.py` on requests that ask for it.

vLLM sorts the whole vocabulary for top-p and draws a random number for each token in it. Here a request is greedy to
vLLM, and the processor leaves it one token to choose: the one that the request's temperature, top-p and seed give. The
random number of a token follows from seed, completion and place alone, so a text does not depend on what is beside it,
nor on a request that has to wait and comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from sq.engine.nucleus import draw, uniform

DRAW = "sq_draw"
"""Name of the extra argument of a request that has its temperature, top-p, seed and number of the completion."""


@dataclass(slots=True)
class _RequestState:
    """One request in the batch, and how many tokens it has."""

    temperature: float
    top_p: float
    seed: int
    index: int
    count: int

    def point(self) -> float:
        """The next token's random number, in [0, 1)."""
        self.count += 1
        return uniform(self.seed, self.index, self.count - 1)


class DrawProcessor(LogitsProcessor):  # type: ignore[misc]
    """Chooses the token of each row that asks for it."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, _RequestState] = {}

    def is_argmax_invariant(self) -> bool:
        """It decides the likeliest token."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests as they come, go and change places."""
        if batch_update is None:
            return
        rows = self._rows
        for place in batch_update.removed:
            rows.pop(place, None)
        for place, params, _, output in batch_update.added:
            draw_args = (params.extra_args or {}).get(DRAW)
            _put(rows, place, None if draw_args is None else _RequestState(**draw_args, count=len(output)))
        for one, other, direction in batch_update.moved:
            first, second = rows.pop(one, None), rows.pop(other, None)
            _put(rows, other, first)
            if direction is MoveDirectionality.SWAP:
                _put(rows, one, second)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Leave one token to each row."""
        if not self._rows:
            return logits
        places = sorted(self._rows)
        rows = [self._rows[place] for place in places]
        chosen = logits if len(places) == logits.shape[0] else logits[places]
        tokens = draw(chosen, [r.temperature for r in rows], [r.top_p for r in rows], [r.point() for r in rows])
        logits[places] = -torch.inf
        logits[places, tokens] = 0.0
        return logits


def _put(rows: dict[int, _RequestState], place: int, row: _RequestState | None) -> None:
    if row is not None:
        rows[place] = row
    else:
        rows.pop(place, None)
