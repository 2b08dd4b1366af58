"""FlashAttention over packs: the rows' boundaries as they are, by whichever build of it is there.

Transformers runs the packages of FlashAttention 3, 2 and 4; without one, PyTorch's own build of it does.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from torch import Tensor

from sq.models.pack import Pack

TORCH = "torch"


@dataclass(frozen=True, kw_only=True)
class VarlenLayout:
    """[N + 1] where each row begins and the last one ends, and a bound of their lengths."""

    bounds: Tensor
    longest: int


def varlen_layout_of(pack: Pack) -> VarlenLayout:
    """What FlashAttention needs to know of `pack`. The bound is a power of 2, of which a compiled model sees few."""
    bounds = torch.tensor([0, *pack.lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    if pack.input_ids.is_cuda:
        bounds = bounds.pin_memory().to(pack.input_ids.device, non_blocking=True)
    return VarlenLayout(bounds=bounds, longest=1 << (max(pack.lengths) - 1).bit_length())


def flash_implementation() -> str:
    """The build of FlashAttention to use: transformers' name of it, `torch` for PyTorch's, or nothing."""
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available, is_flash_attn_4_available

    packages = (
        ("flash_attention_3", is_flash_attn_3_available),
        ("flash_attention_2", is_flash_attn_2_available),
        ("flash_attention_4", is_flash_attn_4_available),
    )
    for name, available in packages:
        if available():
            return name
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return ""
    needed = {"scale", "window_size", "enable_gqa"}  # the first releases had none of them
    return TORCH if needed <= set(inspect.signature(varlen_attn).parameters) else ""


def varlen_attention_over(
    q: Tensor, k: Tensor, v: Tensor, layout: VarlenLayout, scale: float, window: int | None
) -> Tensor:
    """[T, H, D] attention over a pack."""
    from torch.nn.attention.varlen import varlen_attn

    out = varlen_attn(
        q, k, v, layout.bounds, layout.bounds, layout.longest, layout.longest, scale=scale,
        window_size=(-1 if window is None else window - 1, 0), enable_gqa=k.shape[1] != q.shape[1],
    )  # fmt: skip
    assert isinstance(out, Tensor)
    return out
