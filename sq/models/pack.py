"""What a pack is: several rows side by side as one sequence without padding, and what is to be predicted in it.

Positions restart with each row. With a shared prefix the common opening tokens stand once at the front, and every
row's own tokens continue from its positions. A row's last token predicts nothing, so unless its hidden state is
wanted (`keep_last` when collating) it is a target only and is left out of `input_ids`: the same loss for less work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class TokenSequence(NamedTuple):
    """Token ids, and the index of the first one that carries loss (the template prefix before it carries none)."""

    ids: Sequence[int]
    start: int


@dataclass(frozen=True, kw_only=True)
class Pack:
    """One pack. T tokens, N segments (rows; two per pair), S supervised targets."""

    input_ids: Tensor
    """[T]"""
    position_ids: Tensor
    """[T]"""
    segment_ids: Tensor
    """[T], -1 for the shared prefix."""
    prefix: int
    """Length of the shared prefix at the front; 0 where none is shared."""
    lengths: tuple[int, ...]
    """[N] own tokens of each segment in the pack (0 is possible: a row of the shared prefix and one target)."""
    sources: Tensor
    """[S] position in the pack whose hidden state predicts the target."""
    targets: Tensor
    """[S] token ids."""
    owners: Tensor
    """[S] segment of each target."""
    last: Tensor
    """[N] position of each segment's last token in the pack."""
    rows: tuple[int, ...]
    """Which rows of the data set these are, to name them in a message; one per row, or per pair."""
    paired: bool = False
    """Whether segments 2i and 2i + 1 are the chosen and the rejected side of pair i."""

    @property
    def tokens(self) -> int:
        """Tokens the model runs on."""
        return self.input_ids.numel()

    @property
    def supervised(self) -> int:
        """Targets that carry loss."""
        return self.targets.numel()

    def to(self, device: torch.device | str) -> Pack:
        """The same pack on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Pack:
        """The same in memory from which a GPU takes it without waiting; as it is where there is none."""
        return self._each(torch.Tensor.pin_memory) if torch.cuda.is_available() else self

    def _each(self, change: Callable[[Tensor], Tensor]) -> Pack:
        names = ("input_ids", "position_ids", "segment_ids", "sources", "targets", "owners", "last")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in names}
        return replace(self, **changed)

    def padded(self, size: int) -> Pack:
        """The same with tokens of no row behind, `size` in all; they are a row of their own, and predict nothing."""
        more = size - self.tokens
        if more <= 0:
            return self
        return replace(
            self,
            input_ids=F.pad(self.input_ids, (0, more)),
            position_ids=F.pad(self.position_ids, (0, more)),
            segment_ids=F.pad(self.segment_ids, (0, more), value=len(self.lengths)),
            lengths=(*self.lengths, more),
        )
