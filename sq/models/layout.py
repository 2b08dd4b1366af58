"""Where the rows of a pack lie, prepared once per pack for the attention of every layer.

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
