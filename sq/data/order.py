"""Which rows, and in what order: shuffling, mixing and holding out, all seeded, streaming and the same on every run."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from sq.core.count import count_noun

log = logging.getLogger(__name__)
SHUFFLE_BUFFER = 10_000


def in_validation(row: Mapping[str, Any], *, share: float, seed: int = 0) -> bool:
    """Whether a row is held out: by a hash of its question (else of its id), so that adding rows moves none.

    Copies of a question fall on one side, whatever their ids; else some would be trained on and tested on.
    """
    text = row.get("question") or row.get("query") or row.get("question_id") or row["id"]
    key = f"{seed}\0{' '.join(str(text).split())}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") < share * 2**64


def shuffled(rows: Iterable[dict[str, Any]], seed: int, buffer: int = SHUFFLE_BUFFER) -> Iterator[dict[str, Any]]:
    """The rows in a seeded order: any order where they fit in the buffer, else each moves within a window of it."""
    draw = random.Random(seed)
    held: list[dict[str, Any]] = []
    for row in rows:
        if len(held) < buffer:
            held.append(row)
            continue
        at = draw.randrange(buffer)
        row, held[at] = held[at], row
        yield row
    draw.shuffle(held)
    yield from held


def mixed(
    streams: Mapping[str, tuple[Iterator[dict[str, Any]], float | None]], seed: int, *, log_end: bool = True
) -> Iterator[dict[str, Any]]:
    """Rows of several streams in turn, the shares exact at every point; the seed decides who goes first on a tie.

    Without weights it takes turns until all have ended. With weights it ends where the first stream does, because
    beyond that the shares could not be kept.
    """
    order = sorted(streams)
    random.Random(seed).shuffle(order)
    weighted = all(weight is not None for _, weight in streams.values())
    shares = {name: float(streams[name][1] or 1) for name in order}
    taken = dict.fromkeys(order, 0)
    while order:
        name = min(order, key=lambda n: (taken[n] + 0.5) / shares[n])
        row = next(streams[name][0], None)
        if row is not None:
            taken[name] += 1
            yield row
        elif weighted:
            order.remove(name)
            if log_end and (left := [other for other in sorted(order) if next(streams[other][0], None) is not None]):
                log.warning(
                    "the mix ends after %s, with those of %s, by its weights: rows of %s are left out. Without weights "
                    "all are taken: {a: {input: DIR}, b: {input: DIR}}",
                    count_noun(sum(taken.values()), "row"), name, ", ".join(left),
                )  # fmt: skip
            return
        else:
            order.remove(name)


def gathered(
    rows: Iterator[dict[str, Any]], name: Callable[[dict[str, Any]], str], counts: Mapping[str, int] | None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The rows of each name as one group, once the last of them is there.

    Args:
        rows: of which only those of unfinished groups are in memory.
        name: which group a row is of.
        counts: how many rows a group has; None where they stand together.
    """
    if counts is None:
        yield from ((group, list(its)) for group, its in groupby(rows, key=name))
        return
    held: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        group = name(row)
        held.setdefault(group, []).append(row)
        if len(held[group]) >= counts.get(group, 0):
            yield group, held.pop(group)
    yield from held.items()
