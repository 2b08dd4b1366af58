"""How sure a figure is: bootstrap intervals over problems, and the paired bootstrap between two runs.

Problems are what is resampled: several answers to one problem are one draw. A resample only counts how often each
*distinct* value was drawn, so it is one multinomial draw, exact and fast for thousands of problems.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_CELLS = 4_000_000
"""Numbers drawn at once, so that memory stays bounded where every problem has a value of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean and its 95% interval over `count` problems."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What B has over A on the same problems; `p` is the chance to see so much where there is no difference."""

    a: float
    b: float
    value: float
    low: float
    high: float
    p: float
    count: int

    @property
    def real(self) -> bool:
        """Whether the difference is more than chance at the 5% level, by its interval and by its p-value."""
        return self.p < 0.05 and not self.low <= 0 <= self.high


def bootstrap(values: NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of a value per problem with its percentile interval, the same for the same seed.

    Where every value is 0, or every value 1, resampling could only say that nothing varies; the Wilson interval is
    given then, which knows that 20 right of 20 is not certainty.
    """
    count = len(values)
    if not count:
        return Interval(value=0.0, low=0.0, high=1.0, count=0)
    mean = float(np.mean(values))
    if np.all(values == values[0]):
        bounds = wilson(int(mean * count), count) if mean in (0.0, 1.0) else (mean, mean)
        return Interval(value=mean, low=bounds[0], high=bounds[1], count=count)
    low, high = np.percentile(_resampled(values, seed, resamples), [2.5, 97.5])
    return Interval(value=mean, low=float(low), high=float(high), count=count)


def paired(a: NDArray[np.float64], b: NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES) -> Difference:
    """Compare two runs by their values on the same problems, in the same order."""
    if a.shape != b.shape or not len(a):
        raise ValueError(f"{len(a)} and {len(b)} values cannot be paired")
    gaps = b - a
    mean = float(np.mean(gaps))
    told = partial(Difference, a=float(np.mean(a)), b=float(np.mean(b)), value=mean, count=len(a))
    if np.all(gaps == gaps[0]):
        return told(low=mean, high=mean, p=1.0 if mean == 0 else 0.5 ** (len(a) - 1))
    drawn = _resampled(gaps, seed, resamples)
    low, high = np.percentile(drawn, [2.5, 97.5])
    centered = drawn - mean  # what chance alone would give
    extreme = int(np.count_nonzero(np.abs(centered) >= abs(mean) - 1e-12))
    p = (extreme + 1) / (resamples + 1)
    return told(low=float(low), high=float(high), p=min(1.0, p))


def wilson(right: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval (95% unless `z` says otherwise) of a share of `right` in `total`."""
    if total == 0:
        return 0.0, 1.0
    share, spread = right / total, z * z / total
    center = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, center - half), min(1.0, center + half)


def _resampled(values: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """The means of `resamples` draws of as many problems, with replacement."""
    distinct, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    shares, size = counts / counts.sum(), len(values)
    step = max(1, _CELLS // len(distinct))
    means = [
        rng.multinomial(size, shares, size=min(step, resamples - start)) @ distinct / size
        for start in range(0, resamples, step)
    ]
    return np.concatenate(means)
