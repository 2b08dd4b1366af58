"""FlexAttention over packs, for prefix sharing on a GPU: the rule which token sees which is a function, compiled once.

Each token sees the shared prefix and its own row, up to itself and within a sliding window. On CPU it has no backward
pass; its forward pass runs there uncompiled, which is how the tests compare it with SDPA.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sq.models.pack import Pack


@dataclass(frozen=True, kw_only=True)
class FlexLayout:
    """Segments and positions of a pack's tokens, and the block masks made from them, one per window."""

    segments: Tensor
    positions: Tensor
    masks: dict[int | None, Any] = field(default_factory=dict)

    def mask(self, window: int | None) -> Any:
        """The block mask for a layer with this sliding window."""
        if window not in self.masks:
            self.masks[window] = self._make(window)
        return self.masks[window]

    def _make(self, window: int | None) -> Any:
        from torch.nn.attention.flex_attention import create_block_mask

        segments, positions = self.segments, self.positions
        span = torch.iinfo(torch.int32).max if window is None else window

        def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            mine = (segments[q] == segments[k]) | (segments[k] < 0)
            distance = positions[q] - positions[k]
            return mine & (distance >= 0) & (distance < span)

        size = len(segments)
        return create_block_mask(sees, None, None, size, size, device=str(segments.device))


def flex_layout_of(pack: Pack) -> FlexLayout:
    """What FlexAttention needs to know of `pack`."""
    return FlexLayout(segments=pack.segment_ids, positions=pack.position_ids)


def flex_attention_over(
    q: Tensor, k: Tensor, v: Tensor, layout: FlexLayout, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """[1, H, T, D] attention over a pack."""
    cap = None
    if softcap is not None:

        def cap(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return softcap * torch.tanh(score / softcap)

    gqa = q.shape[1] != k.shape[1]
    out = _kernel(q.is_cuda)(q, k, v, score_mod=cap, block_mask=layout.mask(window), scale=scale, enable_gqa=gqa)
    return out  # type: ignore[no-any-return]


@cache
def _kernel(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    kernel: Callable[..., Any] = flex_attention
    return torch.compile(kernel, dynamic=True) if compiled else kernel
