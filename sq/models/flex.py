"""FlexAttention over packs, for prefix sharing on a GPU: the rule which token sees which is a function, compiled once.

Each token sees the shared prefix and its own row, up to itself and within a sliding window. Which blocks of tokens see
each other at all follows from the blocks' first and last rows, before the model runs: inside a layer it would break
torch.compile's graph, and PyTorch's own way makes a number for each pair of tokens (8 GB at 32K). On CPU there is no
backward pass; the forward pass runs there uncompiled, which is how the tests compare it with SDPA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sq.models.pack import Pack

BLOCK = 128
"""Tokens of a block: what FlexAttention's kernels take or leave at a time."""


@dataclass(frozen=True, kw_only=True)
class FlexLayout:
    """The block masks of a pack, one for each sliding window that the model's layers have."""

    masks: dict[int | None, Any]


def flex_layout_of(pack: Pack, windows: Sequence[int | None] = (None,)) -> FlexLayout:
    """What FlexAttention needs to know of `pack`."""
    segments, positions = pack.segment_ids.int(), pack.position_ids.int()
    return FlexLayout(masks={window: _block_mask(segments, positions, window) for window in windows})


def flex_attention_over(
    q: Tensor, k: Tensor, v: Tensor, layout: FlexLayout, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """[1, H, T, D] attention over a pack."""
    from torch.nn.attention.flex_attention import flex_attention

    cap = None
    if softcap is not None:

        def cap(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return softcap * torch.tanh(score / softcap)

    # A compiled body has it compiled with it; alone it is compiled by itself, and on CPU it is not.
    alone = q.is_cuda and not torch.compiler.is_compiling()
    kernel: Any = _compiled() if alone else flex_attention
    if window not in layout.masks:
        raise RuntimeError(
            f"a layer has a sliding window of {window}, which its config does not name; use attention=sdpa"
        )
    gqa = q.shape[1] != k.shape[1]
    out = kernel(q, k, v, score_mod=cap, block_mask=layout.masks[window], scale=scale, enable_gqa=gqa)
    return out  # type: ignore[no-any-return]


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def _block_mask(segments: Tensor, positions: Tensor, window: int | None) -> Any:
    from torch.nn.attention.flex_attention import BlockMask

    span = torch.iinfo(torch.int32).max if window is None else window

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        mine = (segments[q] == segments[k]) | (segments[k] < 0)
        distance = positions[q] - positions[k]
        return mine & (q >= k) & (distance < span)

    size = len(segments)
    partial, full = _blocks(segments, positions, span)
    return BlockMask.from_kv_blocks(
        *_ordered(partial), *_ordered(full), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(size, size)
    )


def _blocks(segments: Tensor, positions: Tensor, span: int) -> tuple[Tensor, Tensor]:
    """[Q, K] which blocks see a part of which, and which the whole of which. Rows lie in order, behind the prefix."""
    count = -(-len(segments) // BLOCK)
    segments, positions = (
        torch.cat([x, x[-1:].expand(count * BLOCK - len(x))]).view(count, BLOCK) for x in (segments, positions)
    )
    first, last = segments.amin(1), segments.amax(1)
    own = first.clamp(min=0)
    # Of a pair of blocks: the rows that both have, and how near and how far their tokens are.
    shared = (own[:, None] <= last[None, :]) & (own[None, :] <= last[:, None])
    apart = BLOCK * (torch.arange(count, device=first.device)[:, None] - torch.arange(count, device=first.device))
    prefix = first < 0
    in_prefix = positions.masked_fill(segments >= 0, -1).amax(1)
    near_prefix = positions.amin(1)[:, None] - in_prefix[None, :] < span
    seen = (shared & (apart - BLOCK < span - 1)) | (prefix[None, :] & near_prefix)
    one = (first == last) & ~prefix
    same = one[:, None] & (first[:, None] == first[None, :]) & (apart + BLOCK <= span)
    far_prefix = positions.amax(1)[:, None] - positions.amin(1)[None, :] < span
    whole = (same | ((last < 0)[None, :] & far_prefix)) & (apart > 0)
    return seen & (apart >= 0) & ~whole, whole


def _ordered(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks each sees, and which, those first."""
    order = torch.argsort(blocks.int(), dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[None, None], order.int()[None, None]
