"""Figures over graded answers, each with its uncertainty."""

from __future__ import annotations

import math


def wilson(right: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval (95% unless `z` says otherwise) of a share of `right` in `total`."""
    if total == 0:
        return 0.0, 1.0
    share, spread = right / total, z * z / total
    center = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, center - half), min(1.0, center + half)
