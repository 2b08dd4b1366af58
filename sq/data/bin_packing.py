"""Which rows share a pack: first-fit-decreasing, deterministic, and nothing cut (paper §3.1 trains QFT with packing).

Rows are placed longest first, each into the first pack that still has room. A segment tree over the packs' free
room finds that pack in O(log packs), and rows of equal length are placed together, so a million rows take seconds.
With a shared prefix the common tokens count once per pack instead of once per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class BinPacking:
    """The rows (by index) of every pack, and those that fit into none."""

    packs: tuple[tuple[int, ...], ...]
    too_long: tuple[int, ...]
    capacity: int
    tokens: int
    """Tokens in all packs, each pack's shared prefix counted once."""

    @property
    def efficiency(self) -> float:
        """Share of the packs' capacity that holds tokens."""
        return self.tokens / (len(self.packs) * self.capacity) if self.packs else 0.0


def pack_rows(
    lengths: Sequence[int], capacity: int, *, prefix: int = 0, segments: int = 1, seed: int | None = None
) -> BinPacking:
    """Plan packs of at most `capacity` tokens.

    Args:
        lengths: tokens of each row as it stands alone, its prefix included; for pairs, of both sides together.
        prefix: length of the prefix that all rows of a pack share; 0 where each row keeps its own.
        segments: how many prefixes a row holds (2 for a pair).
        seed: which of equally long rows come first, and the order of the packs; None keeps the order of placing.

    Returns:
        The plan. A row that alone exceeds `capacity` is in `too_long` and in no pack.
    """
    sizes = np.asarray(lengths, dtype=np.int64) - prefix * segments
    room = capacity - prefix
    if prefix < 0 or segments < 1:
        raise ValueError(f"prefix={prefix} must not be negative, segments={segments} must be at least 1")
    if room < 1:
        raise ValueError(f"capacity={capacity} leaves no room beside a shared prefix of {prefix} tokens")
    if sizes.size and sizes.min() < 0:
        worst = int(sizes.argmin())
        raise ValueError(f"row {worst} has {lengths[worst]} tokens, fewer than {segments} times the prefix of {prefix}")
    rng = None if seed is None else np.random.default_rng(seed)
    order = np.arange(sizes.size) if rng is None else rng.permutation(sizes.size)
    order = order[np.argsort(-sizes[order], kind="stable")]
    fits = sizes[order] <= room
    packs = _first_fit(order[fits], sizes, room)
    if rng is not None:
        packs = [packs[i] for i in rng.permutation(len(packs))]
    too_long = tuple(sorted(int(i) for i in order[~fits]))
    tokens = int(sizes[order[fits]].sum()) + prefix * len(packs)
    return BinPacking(packs=tuple(map(tuple, packs)), too_long=too_long, capacity=capacity, tokens=tokens)


def _first_fit(order: np.ndarray, sizes: np.ndarray, room: int) -> list[list[int]]:
    """Place rows in `order` (longest first), each into the first pack with room for it."""
    if not order.size:
        return []
    total = int(sizes[order].sum())
    # Any-fit packs are more than half full, all but one: twice the total bounds their number.
    tree = _FreeSpaceTree(min(len(order), 2 * total // room + 1), room)
    packs: list[list[int]] = []
    values, starts = np.unique(-sizes[order], return_index=True)
    bounds = [*starts.tolist(), len(order)]
    rows = order.tolist()
    for size, start, stop in zip((-values).tolist(), bounds, bounds[1:], strict=False):
        while start < stop:
            index, free = tree.first_with(size)
            if index == len(packs):
                packs.append([])
            # The first pack with room stays the first until it has none: equal rows go in at once.
            count = min(stop - start, free // size) if size else stop - start
            packs[index].extend(rows[start : start + count])
            tree.set(index, free - count * size)
            start += count
    return packs


class _FreeSpaceTree:
    """A segment tree of the room left in each pack, that finds the first one with enough."""

    def __init__(self, count: int, room: int) -> None:
        self._size = 1 << max(0, count - 1).bit_length()
        self._most = [room] * (2 * self._size)

    def first_with(self, needed: int) -> tuple[int, int]:
        node, most = 1, self._most
        while node < self._size:
            node *= 2
            if most[node] < needed:
                node += 1
        return node - self._size, most[node]

    def set(self, index: int, room: int) -> None:
        node, most = index + self._size, self._most
        most[node] = room
        while node > 1:
            node //= 2
            left, right = most[2 * node], most[2 * node + 1]
            if most[node] == (larger := left if left > right else right):
                return
            most[node] = larger
