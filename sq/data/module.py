"""Packs in the order training sees them: the same on every run, on one process or many, from any step on.

All passes over the data are one sequence of packs, each pack once a pass. An optimiser step takes the next
`batch_packs` of them; only the last step may have fewer. A pack comes with the divisor of its whole step (its
supervised tokens, its rows, their weights), so that gradient accumulation and several devices normalise the loss
exactly as one big batch would.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch.distributed as dist

from sq.core.count import count_noun
from sq.core.errors import ConfigError
from sq.data.bin_packing import BinPacking, pack_rows
from sq.data.collate import collate
from sq.data.tokens import TokenRows
from sq.models.pack import Pack

log = logging.getLogger(__name__)


class StepPack(NamedTuple):
    """A pack, and what the loss of the whole optimiser step it belongs to is divided by.

    A divisor of 0 says that the pack stands in: it keeps processes in step, and neither loss nor figures count it.
    """

    pack: Pack
    divisor: float
    number: int = 0
    """Its place in the sequence of all passes; random numbers follow from it."""


@dataclass(frozen=True, kw_only=True)
class PackPlan:
    """Which rows go together, and how many packs make a step."""

    packing: BinPacking
    prefix: int
    batch_packs: int
    processes: int
    """How many it was made for. Any number that divides `batch_packs` can follow it."""

    def record(self) -> dict[str, int]:
        """What `follow_plan` makes it from again."""
        return {
            "processes": self.processes,
            "packs_per_step": self.batch_packs,
            "tokens_per_pack": self.packing.capacity,
            "prefix": self.prefix,
        }

    def length(self, epochs: float, most_steps: int | None) -> int:
        """Packs in so many passes, at least one, and in at most so many steps."""
        packs = max(1, round(len(self.packing.packs) * epochs))
        return min(packs, most_steps * self.batch_packs) if most_steps else packs


def plan_packs(
    rows: TokenRows,
    *,
    capacity: int,
    seed: int,
    prefix: int = 0,
    batch_packs: int | None = None,
    batch_rows: int | None = None,
    world: int = 1,
) -> PackPlan:
    """Pack all rows. `batch_rows` sets packs per step (and, for small batches, smaller packs) to come near that number.

    Raises:
        ConfigError: where the packs of a step cannot be shared evenly, or there is no row.
    """
    if not len(rows):
        raise ConfigError("there is nothing to train on: no row is left")
    if batch_rows is not None:
        batch_packs, capacity = _near(rows, capacity, prefix, batch_rows, world, seed)
    batch_packs = batch_packs or world
    if batch_packs < world:
        batch_packs, capacity = world, _smaller(rows, capacity, prefix, batch_packs, world)
    if batch_packs % world:
        raise ConfigError(
            f"stage.batch_packs={batch_packs} cannot be shared evenly by {world} processes; make it a multiple of that"
        )
    packing = pack_rows(rows.lengths.tolist(), capacity, prefix=prefix, segments=rows.segments, seed=seed)
    if packing.too_long:
        raise ConfigError(
            f"{len(packing.too_long)} rows do not fit into a pack of {capacity} tokens (the longest has "
            f"{rows.longest}); raise stage.pack_tokens"
        )
    most = -(-len(packing.packs) // world) * world
    if batch_packs > most:  # the same rows again and again in one step would cost as often and teach nothing
        counts = count_noun(batch_packs, "pack"), count_noun(most, "pack")
        log.info("a step of %s is more than all the data: a step is one pass, %s", *counts)
    return PackPlan(packing=packing, prefix=prefix, batch_packs=min(batch_packs, most), processes=world)


def follow_plan(rows: TokenRows, record: Mapping[str, int], seed: int) -> PackPlan:
    """The plan of an earlier process over the same rows, whatever number of processes there is now."""
    prefix = record["prefix"]
    lengths = rows.lengths.tolist()
    packing = pack_rows(lengths, record["tokens_per_pack"], prefix=prefix, segments=rows.segments, seed=seed)
    return PackPlan(packing=packing, prefix=prefix, batch_packs=record["packs_per_step"], processes=record["processes"])


def _smaller(rows: TokenRows, capacity: int, prefix: int, batch_packs: int, world: int) -> int:
    """Tokens per pack where a step has fewer packs than there are processes: as many tokens a step, a pack for each."""
    longest = int(rows.lengths.max()) - prefix * (rows.segments - 1)  # an item alone in its pack
    size = max(longest, -(-capacity * batch_packs // world))
    packs = count_noun(batch_packs, "pack")
    log.info("%s of %d tokens a step for %d processes: a pack of %d each", packs, capacity, world, size)
    return min(size, capacity)


def _near(rows: TokenRows, capacity: int, prefix: int, batch_rows: int, world: int, seed: int) -> tuple[int, int]:
    """Packs per step and tokens per pack that bring about `batch_rows` rows into a step."""
    own = rows.lengths - prefix * rows.segments
    wanted = float(own.mean()) * batch_rows + prefix  # tokens of a step, were it one pack
    if wanted > capacity * world:
        return max(1, round(wanted / (capacity - prefix) / world)) * world, capacity
    # One pack a step and process. The passes come out even, or a last small pack would be a whole step by itself.
    packs = max(1, round(len(rows) / batch_rows)) * world
    size = max(int(own.max()), -(-int(own.sum()) // packs)) + prefix
    while size < capacity:
        packing = pack_rows(rows.lengths.tolist(), size, prefix=prefix, segments=rows.segments, seed=seed)
        if len(packing.packs) <= packs:
            break
        size += max(1, size // 50)
    return world, min(size, capacity)


class PackLoader:
    """Iterates over this process's packs, from `first_step` to the end of training: the first `length` of all passes.

    Every process gets as many in every step: where the last one has fewer, its shortest item stands in, for nothing.
    """

    def __init__(
        self,
        rows: TokenRows,
        plan: PackPlan,
        *,
        length: int,
        seed: int,
        divisor: Callable[[Sequence[int]], float],
        keep_last: bool = False,
        world: int = 1,
    ) -> None:
        self.rows, self.plan, self.length, self.seed, self.world = rows, plan, length, seed, world
        self.divisor, self.keep_last = divisor, keep_last
        self.first_step = 0
        self._cached: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    @property
    def accumulate(self) -> int:
        """Packs of each process in one optimiser step."""
        return self.plan.batch_packs // self.world

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return -(-self.length // self.plan.batch_packs)

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[StepPack]:
        return prefetched(self._share())

    def _share(self) -> Iterator[StepPack]:
        rank, world = process()
        if world != self.world:
            raise ConfigError(f"training was planned for {self.world} processes, but {world} are running")
        size, shortest = self.plan.batch_packs, (int(self.rows.lengths.argmin()),)
        for start in range(self.first_step * size, self.length, size):
            packs = [self._items(number) for number in range(start, min(start + size, self.length))]
            divisor = sum(self.divisor(items) for items in packs)
            for place in range(rank, size, self.world):
                if place < len(packs):
                    yield StepPack(self.collate(packs[place]), divisor, start + place)
                else:
                    yield StepPack(self.collate(shortest), 0.0, start + place)

    def once(self) -> Iterator[StepPack]:
        """This process's share of all packs, each once and in a fixed order, for validation and reference passes.

        Every process gets as many, or collective operations would wait for ever: the last ones may come again.
        """
        rank, world = process()
        packs = self.packs
        for at in range(0, len(packs), world):
            items = packs[min(at + rank, len(packs) - 1)]
            yield StepPack(self.collate(items), self.divisor(items) if at + rank < len(packs) else 0.0)

    @property
    def packs(self) -> tuple[tuple[int, ...], ...]:
        """The items of every pack."""
        return self.plan.packing.packs

    def collate(self, items: Sequence[int]) -> Pack:
        """These items as one pack."""
        rows = [row for item in items for row in self.rows.rows(item)]
        paired = self.rows.segments == 2
        return collate(rows, prefix=self.plan.prefix, paired=paired, keep_last=self.keep_last, indices=items)

    def _items(self, position: int) -> tuple[int, ...]:
        epoch, index = divmod(position, len(self.packs))
        return self.packs[int(self._order(epoch)[index])]

    def _order(self, epoch: int) -> np.ndarray:
        if self._cached[0] != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.packs))
            self._cached = (epoch, order)
        return self._cached[1]


def prefetched(packs: Iterator[StepPack]) -> Iterator[StepPack]:
    """The same, each made while the one before is trained on, in memory that a GPU reads without waiting."""

    def following() -> StepPack | None:
        made = next(packs, None)
        return made and made._replace(pack=made.pack.pinned())

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(following)
        while (ready := coming.result()) is not None:
            coming = thread.submit(following)
            yield ready


def process() -> tuple[int, int]:
    """This process's rank and how many there are, as they are when it is asked."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
