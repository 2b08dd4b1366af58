"""Rows of token ids to a `Pack`: positions, targets, the shared prefix; no padding (paper §3.1, SPEC §3).

A token is predicted from the one before it in its own row, never from a neighbour; the first supervised token from the
prefix's last. The end token is a target like any other, whatever the pad token is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sq.core.errors import RowError
from sq.models.pack import Pack, TokenSequence


def shared_prefix(rows: Sequence[TokenSequence]) -> int:
    """How many opening tokens all rows share and none supervises: what can be computed once per pack."""
    if not rows:
        return 0
    low, high = min(rows, key=lambda r: list(r.ids)), max(rows, key=lambda r: list(r.ids))
    limit = min(min(row.start, len(row.ids) - 1) for row in rows)
    common = 0
    for left, right in zip(low.ids, high.ids, strict=False):
        if left != right or common >= limit:
            break
        common += 1
    return max(common, 0)


def collate(
    rows: Sequence[TokenSequence],
    *,
    prefix: int = 0,
    paired: bool = False,
    keep_last: bool = False,
    indices: Sequence[int] | None = None,
) -> Pack:
    """Put rows side by side into one pack.

    Args:
        rows: for pairs chosen and rejected in turn.
        prefix: how many opening tokens to share (`shared_prefix` tells how many can be); 0 to share none.
        paired: whether the rows are pairs.
        keep_last: keep each row's last token in the input (a regression reads its hidden state) and allow rows
            without targets.
        indices: the rows' (or pairs') numbers in the data set, for messages; default 0, 1, …

    Raises:
        RowError: for a row that has nothing to predict, or does not begin with the shared prefix.
    """
    if not rows or (paired and len(rows) % 2):
        raise RowError(f"a pack needs at least one row, and pairs two each; got {len(rows)} (paired={paired})")
    head = list(rows[0].ids[:prefix])
    ids, positions, segments = list(head), list(range(prefix)), [-1] * prefix
    sources: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    lengths: list[int] = []
    last: list[int] = []
    for number, row in enumerate(rows):
        _check(number, row, head, keep_last)
        stop = len(row.ids) if keep_last else len(row.ids) - 1
        offset = len(ids) - prefix  # where the row's token at index i >= prefix lies: offset + i
        first = max(row.start, 1)
        ids.extend(row.ids[prefix:stop])
        positions.extend(range(prefix, stop))
        segments.extend([number] * (stop - prefix))
        sources.extend(i - 1 + offset if i > prefix else i - 1 for i in range(first, len(row.ids)))
        targets.extend(row.ids[first:])
        owners.extend([number] * (len(row.ids) - first))
        lengths.append(stop - prefix)
        last.append(len(ids) - 1 if stop > prefix else prefix - 1)
    count = len(rows) // 2 if paired else len(rows)
    numbers = tuple(range(count)) if indices is None else tuple(indices)
    if len(numbers) != count:
        raise ValueError(f"{len(numbers)} indices given for {count} {'pairs' if paired else 'rows'}")
    return Pack(
        input_ids=torch.tensor(ids, dtype=torch.long),
        position_ids=torch.tensor(positions, dtype=torch.long),
        segment_ids=torch.tensor(segments, dtype=torch.long),
        prefix=prefix,
        lengths=tuple(lengths),
        sources=torch.tensor(sources, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        owners=torch.tensor(owners, dtype=torch.long),
        last=torch.tensor(last, dtype=torch.long),
        rows=numbers,
        paired=paired,
    )


def _check(number: int, row: TokenSequence, head: list[int], keep_last: bool) -> None:
    if list(row.ids[: len(head)]) != head:
        raise RowError(f"row {number} of the pack does not begin with the {len(head)} tokens that the pack shares")
    if row.start < len(head):
        raise RowError(f"row {number} supervises token {row.start}, inside the shared prefix of {len(head)} tokens")
    if keep_last:
        if len(row.ids) <= len(head):
            raise RowError(f"row {number} has {len(row.ids)} tokens, none beyond the shared prefix of {len(head)}")
    elif len(row.ids) <= max(row.start, 1):
        raise RowError(
            f"row {number} has {len(row.ids)} tokens and supervises from {row.start}: nothing to predict; "
            "drop rows whose text is empty"
        )
