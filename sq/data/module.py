"""Packs in the order training sees them: the same on every run, on one process or many, from any step on.

All passes over the data are one sequence of optimiser steps, each of `batch_packs` packs. A pack comes with the number
of supervised tokens in its whole step, so that gradient accumulation and several devices normalise the loss exactly as
one big batch would.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sq.core.errors import ConfigError
from sq.data.collate import collate
from sq.data.packing import Packing, pack_rows
from sq.data.tokens import TokenRows
from sq.models.pack import Pack


class StepPack(NamedTuple):
    """A pack, and the supervised tokens of the whole optimiser step it belongs to."""

    pack: Pack
    step_tokens: int


class PackLoader:
    """Iterates over this process's packs, from `first_step` to the end of training."""

    def __init__(
        self,
        rows: TokenRows,
        packing: Packing,
        *,
        batch_packs: int,
        steps: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_packs % world:
            raise ConfigError(f"stage.batch_packs={batch_packs} cannot be shared evenly by {world} processes")
        if not packing.packs:
            raise ConfigError("there is nothing to train on: no row fits into a pack; raise stage.pack_tokens")
        self.rows, self.packing = rows, packing
        self.batch_packs, self.steps, self.seed, self.rank, self.world = batch_packs, steps, seed, rank, world
        self.first_step = 0
        self._cached: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    @property
    def accumulate(self) -> int:
        """Packs of each process in one optimiser step."""
        return self.batch_packs // self.world

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[StepPack]:
        for step in range(self.first_step, self.steps):
            packs = [self._pack(step * self.batch_packs + i) for i in range(self.batch_packs)]
            tokens = sum(self.rows.supervised(row) for pack in packs for row in pack)
            for pack in packs[self.rank :: self.world]:
                yield StepPack(collate([self.rows[i] for i in pack], indices=pack), tokens)

    def _pack(self, position: int) -> tuple[int, ...]:
        epoch, index = divmod(position, len(self.packing.packs))
        return self.packing.packs[int(self._order(epoch)[index])]

    def _order(self, epoch: int) -> np.ndarray:
        if self._cached[0] != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.packing.packs))
            self._cached = (epoch, order)
        return self._cached[1]


def plan_steps(packs: int, batch_packs: int, epochs: float, max_steps: int | None) -> int:
    """Optimiser steps in `epochs` passes over `packs`, at least one, at most `max_steps`."""
    steps = max(1, round(packs * epochs / batch_packs))
    return min(steps, max_steps) if max_steps else steps


def plan_packs(rows: TokenRows, capacity: int, seed: int) -> Packing:
    """Pack all rows; one that alone exceeds the capacity is left to the caller in `too_long`."""
    return pack_rows(rows.lengths.tolist(), capacity, seed=seed)
