"""Top-p without sorting the vocabulary: on a CPU vLLM spends more than half of decoding on that sort.

Top-p removes the least likely tokens whose probabilities sum to at most 1 - p. So tokens are counted into buckets of
like probability (the leading bits of a positive float order as the float does), the bucket in which the sum passes
1 - p is found, and only that one's tokens are sorted: a pass over the vocabulary in place of a sort of it. What is kept
is vLLM's own set, but that tokens exactly as likely as the last one kept all stay.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

DROPPED_BITS = 18
"""Of a float's 32 bits: what stays are its exponent and five bits of its mantissa, 32 buckets to an octave."""
BUCKETS = (0x3F80_0000 >> DROPPED_BITS) + 1


def keep_nucleus(logits_BV: Tensor, top_p: Mapping[int, float]) -> Tensor:
    """Set to -inf, in place, what top-p removes from the rows named in `top_p`; other rows stay as they are."""
    if not top_p:
        return logits_BV
    rows = sorted(top_p)
    every = len(rows) == logits_BV.shape[0]
    chosen_RV = logits_BV.float() if every else logits_BV[rows].float()
    peak_R1 = chosen_RV.amax(dim=-1, keepdim=True)
    weights_RV = (chosen_RV - peak_R1).exp_()
    totals = weights_RV.sum(dim=-1).tolist()
    cuts = [_cut(weights_V, total, top_p[row]) for row, weights_V, total in zip(rows, weights_RV, totals, strict=True)]
    cut_R1 = torch.tensor(cuts, dtype=weights_RV.dtype, device=weights_RV.device)[:, None]
    gone_RV = weights_RV < cut_R1
    if every:
        return logits_BV.masked_fill_(gone_RV, -torch.inf)
    logits_BV[rows] = chosen_RV.masked_fill(gone_RV, -torch.inf)
    return logits_BV


def uniform(seed: int, completion: int, place: int) -> float:
    """The random number in [0, 1) of a token, of which every bit of the seed decides.

    Torch's generator on a CPU takes 32 bits of a seed: of a million, a hundred pairs would draw the same.
    """
    text = f"{seed}:{completion}:{place}".encode()
    return (int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 11) / 2**53


def draw(
    logits_BV: Tensor, temperatures: Sequence[float], top_p: Sequence[float], points: Sequence[float]
) -> list[int]:
    """A token of each row, by where its point in [0, 1) falls among the weights of the tokens that top-p keeps."""
    colder_B1 = 1.0 / torch.tensor(temperatures, device=logits_BV.device)[:, None]
    weights_BV = (logits_BV.float() - logits_BV.float().amax(dim=-1, keepdim=True)).mul_(colder_B1).exp_()
    totals = weights_BV.sum(dim=-1).tolist()
    return [_drawn(*row) for row in zip(weights_BV, totals, top_p, points, strict=True)]


def _drawn(weights_V: Tensor, total: float, p: float, point: float) -> int:
    if not math.isfinite(total):
        return int(weights_V.nan_to_num().argmax())
    cut = _cut(weights_V, total, p)
    kept_K = (weights_V >= cut).nonzero()[:, 0] if cut > 0 else None
    sums_K = (weights_V if kept_K is None else weights_V[kept_K]).double().cumsum(0)
    place = int(torch.searchsorted(sums_K, float(sums_K[-1]) * point * (1 - 1e-12), right=True))
    return place if kept_K is None else int(kept_K[place])


def _cut(weights_V: Tensor, total: float, p: float) -> float:
    """The smallest weight that stays: below it lie, in all, at most (1 - p) of the total. Weights are in [0, 1]."""
    if p >= 1.0:
        return 0.0
    budget = (1.0 - p) * total
    buckets_V = weights_V.view(torch.int32) >> DROPPED_BITS
    sums_K = torch.bincount(buckets_V, weights_V, minlength=BUCKETS).cumsum(0)
    bucket = min(int(torch.searchsorted(sums_K, budget, right=True)), int(buckets_V.max()))
    below = float(sums_K[bucket - 1]) if bucket else 0.0
    inside = weights_V[buckets_V == bucket].sort().values
    first = int(torch.searchsorted(inside.double().cumsum(0), budget - below, right=True))
    return float(inside[min(first, inside.numel() - 1)])
