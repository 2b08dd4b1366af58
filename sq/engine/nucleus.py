"""Top-p without sorting the vocabulary: on a CPU vLLM spends more than half of decoding on that sort.

The tokens that top-p removes are the least likely ones whose probabilities sum to at most 1 - p. V tokens of probability
(1 - p) / V or less sum to no more than that, so they are all removed, and only the others (hundreds in place of tens of
thousands) are sorted. What is kept is vLLM's own set, but that tokens exactly as likely as the last one kept all stay.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def keep_nucleus(logits_BV: Tensor, top_p: Mapping[int, float]) -> Tensor:
    """Set to -inf, in place, what top-p removes from the rows named in `top_p`; other rows stay as they are."""
    if not top_p:
        return logits_BV
    rows = list(top_p)
    every = len(rows) == logits_BV.shape[0]
    chosen_RV = logits_BV if every else logits_BV[rows]
    peak_R1 = chosen_RV.amax(dim=-1, keepdim=True)
    weights_RV = (chosen_RV - peak_R1).exp_()
    totals = weights_RV.sum(dim=-1).tolist()
    cuts = [
        _cut(weights_V, total, top_p[row]) for row, weights_V, total in zip(rows, weights_RV, totals, strict=True)
    ]
    cut_R1 = torch.tensor(cuts, dtype=weights_RV.dtype, device=weights_RV.device)[:, None]
    gone_RV = weights_RV < cut_R1
    if every and rows == list(range(len(rows))):
        return logits_BV.masked_fill_(gone_RV, -torch.inf)
    logits_BV[rows] = chosen_RV.masked_fill(gone_RV, -torch.inf)
    return logits_BV


def _cut(weights_V: Tensor, total: float, p: float) -> float:
    """The smallest weight that stays: below it lie, in all, at most (1 - p) of the total."""
    if p >= 1.0:
        return 0.0
    budget = (1.0 - p) * total
    likely_K = weights_V[weights_V > budget / weights_V.numel()].sort().values
    removed = max(0.0, total - float(likely_K.sum()))
    sums_K = likely_K.cumsum(0)
    first = int(torch.searchsorted(sums_K, max(0.0, budget - removed), right=True))
    return float(likely_K[min(first, likely_K.numel() - 1)])
