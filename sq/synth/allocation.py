"""How many solutions a question gets by its difficulty: few to an easy one, many to a hard one (DART-Math, arXiv
2407.13690): as many samples as are expected to hold the right ones that are wanted.
"""

from __future__ import annotations

import math

ALLOCATIONS = ("uniform", "prop2diff")


def samples_wanted(fail_rate: float, *, allocation: str, right: int, most: int) -> int:
    """Samples that are expected to hold `right` right answers (uniform), or up to `right` in proportion to the fail
    rate (prop2diff); one at least, and `most` at most, which a question that was never solved gets.
    """
    wanted = right if allocation == "uniform" else max(1, math.ceil(right * fail_rate))
    return most if fail_rate >= 1 else min(most, math.ceil(round(wanted / (1 - fail_rate), 6)))


def mean_samples_wanted(fail_rate: float, counted: int, *, allocation: str, right: int, most: int) -> float:
    """The mean of `samples_wanted` over questions of this mean fail rate, each labelled by its failures in `counted`
    answers. It is far above that of the mean: few questions are never solved, and each gets `most`. Their fail rates
    are supposed to be of a beta distribution with a + b = 2: uniform where the mean is a half.
    """

    def samples(rate: float) -> int:
        return samples_wanted(rate, allocation=allocation, right=right, most=most)

    def log_beta(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    if not 0 < fail_rate < 1:
        return float(samples(fail_rate))
    a, b = 2 * fail_rate, 2 - 2 * fail_rate
    shares = (
        math.comb(counted, failed) * math.exp(log_beta(failed + a, counted - failed + b) - log_beta(a, b))
        for failed in range(counted + 1)
    )
    return sum(share * samples(failed / counted) for failed, share in enumerate(shares))
