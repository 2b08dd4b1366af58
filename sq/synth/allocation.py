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
