"""Attention over packs on SDPA: where the rows lie, prepared once per pack, and the computation group by group.

Rows are sorted by length and gathered into a few groups, padded to the longest of the group: each group is one batch
of small attention problems. Padding stays inside the attention and is never attended to: it stands after every real
token of its row, so the causal mask hides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sq.models.pack import Pack

WASTE = 0.15
"""Padding a group may hold, as a share of its tokens: more groups mean more small calls, fewer mean more padding."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The shared prefix, the groups of rows, and the way from the pack's order to the groups' and back."""

    prefix: int
    groups: tuple[tuple[int, int], ...]
    """(rows, padded length) of each group."""
    gather: Tensor
    """[padded tokens] own token, counted from the prefix's end, that stands there; padding repeats token 0."""
    scatter: Tensor
    """[own tokens] where each stands among the padded tokens."""


def layout_of(pack: Pack) -> Layout:
    """Group the rows of `pack`."""
    starts = [0]
    for length in pack.lengths:
        starts.append(starts[-1] + length)
    order = sorted((i for i, n in enumerate(pack.lengths) if n), key=lambda i: -pack.lengths[i])
    groups: list[tuple[int, int]] = []
    gather: list[int] = []
    scatter = [0] * starts[-1]
    for members in _groups(order, pack.lengths):
        padded = pack.lengths[members[0]]
        for i in members:
            own, base = range(starts[i], starts[i + 1]), len(gather)
            scatter[starts[i] : starts[i + 1]] = range(base, base + len(own))
            gather.extend(own)
            gather.extend([0] * (padded - len(own)))
        groups.append((len(members), padded))
    device = pack.input_ids.device
    return Layout(
        prefix=pack.prefix,
        groups=tuple(groups),
        gather=torch.tensor(gather, dtype=torch.long, device=device),
        scatter=torch.tensor(scatter, dtype=torch.long, device=device),
    )


def _groups(order: list[int], lengths: Sequence[int]) -> list[list[int]]:
    """Cut rows, longest first, where one more would take the group's padding over `WASTE`."""
    groups: list[list[int]] = []
    own = 0
    for i in order:
        if groups and own + lengths[i] >= (1 - WASTE) * lengths[groups[-1][0]] * (len(groups[-1]) + 1):
            groups[-1].append(i)
            own += lengths[i]
        else:
            groups.append([i])
            own = lengths[i]
    return groups


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a layer asks of its attention beyond softmax(qk)v."""

    scale: float
    window: int | None
    softcap: float | None
    sinks: Tensor | None
    dropout: float


@torch.compiler.disable  # type: ignore[untyped-decorator]
def attend_by_groups(q: Tensor, k: Tensor, v: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """[T, H, D] attention, the prefix by itself and each group of rows after it.

    Groups differ from pack to pack: under torch.compile they would be compiled anew each time, so they run as they are.
    """
    prefix = layout.prefix
    (q_head, q_own), (k_head, k_own), (v_head, v_own) = (split(x, layout) for x in (q, k, v))
    head = q_head
    if prefix:
        head = _attend(q_head[None], k_head[None], v_head[None], rule)[0]
    outs, start = [], 0
    for rows, length in layout.groups:
        part = slice(start, start + rows * length)
        start = part.stop
        q_group, k_group, v_group = (x[part].unflatten(0, (rows, length)) for x in (q_own, k_own, v_own))
        if prefix:
            k_group = torch.cat([k_head.expand(rows, -1, -1, -1), k_group], dim=1)
            v_group = torch.cat([v_head.expand(rows, -1, -1, -1), v_group], dim=1)
        outs.append(_attend(q_group, k_group, v_group, rule).flatten(0, 1))
    own = torch.cat(outs) if outs else q_own
    return merge(head, own, layout)


def _attend(q: Tensor, k: Tensor, v: Tensor, rule: Rule) -> Tensor:
    """Causal attention of [N, L, H, D] queries to [N, K, G, D] keys; the queries are the last L of the K positions."""
    length, keys = q.shape[1], k.shape[1]
    window = rule.window if rule.window is not None and rule.window < keys else None
    plain = rule.softcap is None and rule.sinks is None and not rule.dropout
    half = q.dtype in (torch.bfloat16, torch.float16)
    # Measured on CPU: the fused kernel's backward is slow on short rows, much more so in half precision.
    if not plain or (not q.is_cuda and keys <= (512 if half else 64)):
        return _attend_by_products(q, k, v, rule, window)
    mask = None
    if window is not None or keys != length:
        mask = _allowed(length, keys, window, q.device)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        scale=rule.scale,
        enable_gqa=k.shape[2] != q.shape[2],
    )
    return out.transpose(1, 2)


def _attend_by_products(q: Tensor, k: Tensor, v: Tensor, rule: Rule, window: int | None) -> Tensor:
    """The same, written out: short rows on CPU, soft-capped scores, attention sinks, dropout."""
    rows, length, heads, width = q.shape
    groups, keys, repeat = k.shape[2], k.shape[1], heads // k.shape[2]
    # Query heads that share a key head stand under one another: one product serves them all.
    folded = q.unflatten(2, (groups, repeat)).permute(0, 2, 3, 1, 4).reshape(rows * groups, repeat * length, width)
    k = k.transpose(1, 2).reshape(rows * groups, keys, width)
    v = v.transpose(1, 2).reshape(rows * groups, keys, v.shape[-1])
    allowed = _allowed(length, keys, window, q.device).repeat(repeat, 1)
    bias = torch.zeros(allowed.shape, dtype=q.dtype, device=q.device).masked_fill_(~allowed, float("-inf"))
    if rule.softcap is None:
        scores = torch.baddbmm(bias, folded, k.transpose(1, 2), alpha=rule.scale)
    else:
        scores = torch.tanh(torch.bmm(folded, k.transpose(1, 2)) * (rule.scale / rule.softcap)) * rule.softcap + bias
    if rule.sinks is not None:
        sinks = rule.sinks.to(scores.dtype).view(groups, repeat, 1).expand(rows, groups, repeat, length)
        scores = torch.cat([scores, sinks.reshape(rows * groups, repeat * length, 1)], dim=-1)
    weights = torch.softmax(scores, dim=-1)[..., :keys]
    if rule.dropout:
        weights = torch.dropout(weights, rule.dropout, True)
    out: Tensor = torch.bmm(weights, v).unflatten(0, (rows, groups)).unflatten(2, (repeat, length))
    return out.permute(0, 3, 1, 2, 4).flatten(2, 3)


def _allowed(length: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """[L, K] which keys a query may see: those up to itself, within the window."""
    mask = torch.ones(length, keys, dtype=torch.bool, device=device).tril_(keys - length)
    return mask if window is None else mask.triu_(keys - length - window + 1)


def split(x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """[T, …] to the prefix's tokens and the padded groups'."""
    head, padded = _Split.apply(x, layout)  # type: ignore[no-untyped-call]
    return head, padded


def merge(head: Tensor, padded: Tensor, layout: Layout) -> Tensor:
    """The way back: padding is dropped and gets no gradient."""
    merged: Tensor = _Merge.apply(head, padded, layout)  # type: ignore[no-untyped-call]
    return merged


class _Split(torch.autograd.Function):
    """A plain gather's backward adds row by row, which is slow; every own token stands in one place, so the way back
    is a gather too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:  # noqa: D102
        ctx.layout = layout
        return x[: layout.prefix].clone(), x[layout.prefix :].index_select(0, layout.gather)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: D102
        head, padded = grads
        own = padded.index_select(0, ctx.layout.scatter)
        return (torch.cat([head, own]) if ctx.layout.prefix else own), None


class _Merge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, head: Tensor, padded: Tensor, layout: Layout) -> Tensor:  # noqa: D102
        ctx.layout = layout
        own = padded.index_select(0, layout.scatter)
        return torch.cat([head, own]) if layout.prefix else own

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: D102
        layout: Layout = ctx.layout
        grad = grads[0]
        padded = grad.new_zeros(len(layout.gather), *grad.shape[1:])
        padded.index_copy_(0, layout.scatter, grad[layout.prefix :])
        return grad[: layout.prefix], padded, None
