"""How sure a metric is: every 95% interval and the test between two runs that `sq` prints, in closed form.

    share_interval       a share of right answers: Wilson's score interval (1927); of several answers to a problem, on
                         as many answers as the standard error clustered by problem is worth (Korn & Graubard 1998)
    confidence_sequence  a share that is looked at after every answer, where any look may be the last: the beta-binomial
                         mixture of Robbins (1970), which ever misses with at most the stated chance
    mean_interval        a mean of anything else: Student's t
    paired_difference    two runs on the same problems: an exact test by flipped signs, which for one answer to each
                         problem is McNemar's, and the interval of Bonett & Price (2012), or Student's of the gaps

Nothing here is drawn at random. `tests/core/test_intervals.py` enumerates how often each interval holds the truth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist, fmean, pvariance, variance

Z95 = NormalDist().inv_cdf(0.975)
_FINEST = 1000
"""Answers to a problem up to which the paired test is exact; beyond, shares are rounded to as many steps."""


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
        """Whether the difference is more than chance at the 5% level, by the exact test and by its interval."""
        return self.p < 0.05 and not self.low <= 0 <= self.high


def wilson(right: float, total: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of `right` in `total`; (0, 1) where nothing was counted."""
    if not total:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, spread = right / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return 0.0 if right == 0 else max(0.0, middle - half), 1.0 if right == total else min(1.0, middle + half)


@lru_cache(maxsize=4096)
def confidence_sequence(right: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share of `right` in `total` that holds however often it was looked at before.

    Of the shares p under which the answers so far are likely enough: the mixture of their likelihood over a
    Beta(1/2, 1/2) prior, over that under p, is a martingale of mean 1, which ever exceeds 1/(1 - level) with a chance
    of 1 - level at most (Ville). Both ends of the interval are where it does.
    """
    if not total:
        return 0.0, 1.0
    wrong = total - right
    mixture = _log_beta(right + 0.5, wrong + 0.5) - _log_beta(0.5, 0.5)
    bound = mixture + math.log(1 - level)

    def excluded(p: float) -> bool:
        return right * math.log(p) + wrong * math.log1p(-p) <= bound

    share = right / total
    low = 0.0 if right == 0 else _edge(excluded, 0.0, share)
    return low, 1.0 if wrong == 0 else _edge(excluded, 1.0, share)


def _edge(excluded: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where `excluded` changes between a point that is and one that is not."""
    for _ in range(52):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excluded(middle) else (outside, middle)
    return outside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def share_interval(shares: Sequence[float]) -> Interval:
    """The mean of one share of right answers for each problem; where a problem has one answer, Wilson's interval.

    Answers to one problem go together, so n problems are worth n answers or more: as many as would give the standard
    error between problems. With few problems that error is itself unsure (Student's t).
    """
    count = len(shares)
    mean = fmean(shares) if count else 0.0
    worth = float(count)
    if count > 1 and (squared_error := variance(shares) / count) > 1e-12:
        worth = max(worth, (Z95 / student(count - 1)) ** 2 * mean * (1 - mean) / squared_error)
    low, high = wilson(mean * worth, worth)
    return Interval(value=mean, low=low, high=high, count=count)


def mean_interval(values: Sequence[float]) -> Interval:
    """A mean with Student's interval. One value alone shows no spread: both ends are the value."""
    count = len(values)
    if not count:
        return Interval(value=0.0, low=0.0, high=1.0, count=0)
    mean = fmean(values)
    half = student(count - 1) * math.sqrt(variance(values) / count) if count > 1 else 0.0
    return Interval(value=mean, low=mean - half, high=mean + half, count=count)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Compare two runs by their shares of right answers to the same problems, in the same order."""
    if len(a) != len(b) or not len(a):
        raise ValueError(f"{len(a)} and {len(b)} values cannot be paired")
    gaps = [y - x for x, y in zip(a, b, strict=True)]
    if set(gaps) <= {-1.0, 0.0, 1.0}:  # one answer to each problem: one more problem gained, and one lost
        padded = [*gaps, 1.0, -1.0]
        middle, half = fmean(padded), Z95 * math.sqrt(pvariance(padded) / len(padded))
    elif len(gaps) > 1:
        middle, half = fmean(gaps), student(len(gaps) - 1) * math.sqrt(variance(gaps) / len(gaps))
    else:
        middle, half = 0.0, 1.0
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    value = fmean(gaps)
    return Difference(a=fmean(a), b=fmean(b), value=value, low=low, high=high, p=_sign_flips(gaps), count=len(gaps))


def student(degrees: int) -> float:
    """What a standard error is multiplied by for 95%, by its degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def _sign_flips(gaps: Sequence[float]) -> float:
    """How often the sum of the gaps is as far from 0 when each has either sign with the same chance (two-sided, exact).

    The characteristic function of a sum of independent ±m is a product of cosines; on as many points as the sum has
    values, its Fourier transform is the distribution itself.
    """
    import numpy as np

    exact = [Fraction(gap).limit_denominator(_FINEST**2) for gap in gaps]
    steps_per_one = min(_FINEST, math.lcm(*(gap.denominator for gap in exact)))
    steps = [round(gap * steps_per_one) for gap in exact]
    most = sum(map(abs, steps))
    angles = 2 * np.pi * np.arange(2 * most + 1) / (2 * most + 1)
    spectrum = np.ones_like(angles)
    for size, times in Counter(map(abs, steps)).items():
        spectrum *= np.cos(size * angles) ** times
    chances = np.fft.fft(spectrum).real / len(angles)  # of the sums 0, 1, ..., most, -most, ..., -1
    seen = abs(sum(steps))
    return float(np.clip(chances[seen : len(angles) - seen + 1].sum() if seen else 1.0, 0.0, 1.0))
