"""Whose failure is it, the worker's or a row's? What the coordinator knows of the parts that have ended workers.

A part that has ended a worker is given with fewer others. One that has ended two, the last of which held no other, is
suspected: its rows are asked a few at a time, those of a few that ended a worker one by one, each named before. A row
is deadly once it has ended two workers that were asked it alone (one worker twice, where there is no other), counting
only workers that served something else before or after: of any other the engine itself may be broken.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field

log = logging.getLogger(__name__)
ENDED = 2
"""Workers that a part ends before it is suspected, and a row, asked alone, before it is given up."""
OUTSIDE = 4
"""Ends from outside at the same part, with no result in between, from which on the part may be their cause."""
OUTSIDE_EVER = 16
"""The same with results in between, which are lost with a worker whose disk is its own."""
NO_PART = -1
"""In place of the parts of a worker that ends before it has one."""


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """The rows of a suspected part that are asked alone, and how many workers each has ended; those given up; a part
    that is committed, if any is."""

    alone: Mapping[str, int] = field(default_factory=dict)
    deadly: frozenset[str] = frozenset()
    committed: tuple[int, ...] = ()


class SuspectedParts:
    """Which parts and rows have ended workers; by the workers' numbers."""

    def __init__(self) -> None:
        self._ended: Counter[int] = Counter()
        self._outside: Counter[int] = Counter()
        self._outside_ever: Counter[int] = Counter()
        self._last: dict[int, int] = {}
        self._alone: dict[int, dict[str, list[int]]] = {}
        self.handed_over: Counter[int] = Counter()
        """How often a part was taken from a worker that seemed to hang."""

    def __contains__(self, index: int) -> bool:
        return index in self._alone

    def add(self, worker: int, parts: Collection[int], at: Collection[str]) -> None:
        """A worker has failed that held these parts, or was at these rows of the one suspected part that it held."""
        self._last.update(dict.fromkeys(parts, worker))
        if at:
            (index,) = parts
            rows = self._alone[index]
            for key in at:
                rows.setdefault(key, [])
            if len(at) == 1:
                rows[next(iter(at))].append(worker)
            return
        for index in parts:
            self._ended[index] += 1
            if self._ended[index] >= ENDED and len(parts) == 1 and index not in self:
                log.warning(
                    "part %d has ended %d workers: its items are asked a few at a time", index, self._ended[index]
                )
                self._alone[index] = {}

    def add_outside(self, parts: Set[int]) -> bool:
        """A worker that held these parts was ended from outside; whether that came too often to be by chance."""
        parts = parts or {NO_PART}
        self._outside.update(parts)
        self._outside_ever.update(parts - {NO_PART})
        return any(
            index in self or self._outside[index] > OUTSIDE or self._outside_ever[index] > OUTSIDE_EVER
            for index in parts
        )

    def has_served(self, parts: Collection[int]) -> None:
        """A worker that holds these parts has given a result."""
        for index in (*parts, NO_PART):
            self._outside.pop(index, None)

    def of(self, index: int, served: Collection[int], several: bool) -> Suspects | None:
        """What is known of a part, given the workers that have served something, and whether there are several.

        None where it is not suspected.
        """
        if index not in self:
            return None
        rows = self._alone[index]
        ended = {key: [number for number in numbers if number in served] for key, numbers in rows.items()}
        deadly = {key for key, numbers in ended.items() if len(set(numbers) if several else numbers) >= ENDED}
        return Suspects(alone={key: len(numbers) for key, numbers in rows.items()}, deadly=frozenset(deadly))

    def is_for(self, index: int, worker: int, waits: bool, several: bool) -> bool:
        """Whether a worker may have a part: a suspected one is for one that waits, and that it has not just ended."""
        return index not in self or (waits and not (several and self._last.get(index) == worker))

    def most_beside(self, index: int, ahead: int) -> int:
        """How many parts a worker may hold that holds this one: fewer each time, so few are suspected."""
        return max(1, ahead >> (4 * self._ended[index]))

    def done(self, index: int) -> None:
        """A part is committed, or left."""
        counts = (self._ended, self._outside, self._outside_ever, self.handed_over)
        for known in (*counts, self._last, self._alone):
            known.pop(index, None)

    def any_ended_twice(self) -> bool:
        """Whether two workers have ended with one part, so that it may be due to its rows."""
        return any(ended >= ENDED for ended in self._ended.values())
