"""Numbers by 64-bit keys, many to a key, in 12 bytes each: sorted arrays that are merged as they grow.

A dict of Python takes ten times as much. A key is added with a whole block of others and looked up with a whole block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SortedRuns:
    """A multimap that only grows; the numbers of a key come in the order in which they were added."""

    def __init__(self) -> None:
        self._runs: list[tuple[NDArray[np.uint64], NDArray[np.uint32]]] = []

    def add(self, keys: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> None:
        """Add a block; a run is merged with the one before where that is less than twice as long."""
        if not len(keys):
            return  # an empty run would never be merged
        order = np.argsort(keys, kind="stable")
        self._runs.append((keys[order], numbers[order]))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            newer, older = self._runs.pop(), self._runs.pop()
            self._runs.append(_merged(older, newer))

    def find(self, keys: NDArray[np.uint64]) -> tuple[list[int], list[int]]:
        """Which of the keys are here, by their place in the block, and their numbers: in order for each key."""
        order = np.argsort(keys)  # neighbours in memory are looked for one after the other
        ordered = keys[order]
        places: list[int] = []
        numbers: list[int] = []
        for run, values in self._runs:
            start = np.searchsorted(run, ordered)
            hit = np.flatnonzero(run[np.minimum(start, len(run) - 1)] == ordered)
            ends = np.searchsorted(run, ordered[hit], "right")
            for at, first, last in zip(order[hit].tolist(), start[hit].tolist(), ends.tolist(), strict=True):
                places += [at] * (last - first)
                numbers += values[first:last].tolist()
        return places, numbers


def _merged(
    older: tuple[NDArray[np.uint64], NDArray[np.uint32]], newer: tuple[NDArray[np.uint64], NDArray[np.uint32]]
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Both runs as one; of equal keys the older run's come first."""
    length = len(older[0]) + len(newer[0])
    at = np.searchsorted(older[0], newer[0], "right") + np.arange(len(newer[0]))
    rest = np.ones(length, dtype=bool)
    rest[at] = False
    keys, numbers = np.empty(length, dtype=np.uint64), np.empty(length, dtype=np.uint32)
    keys[at], numbers[at] = newer
    keys[rest], numbers[rest] = older
    return keys, numbers
