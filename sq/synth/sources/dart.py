"""`source=dart`: no new questions, more answers to the hard ones (DART-Math, arXiv 2407.13690, DARS).

The paper samples each seed until it has enough right answers: as many for every question (uniform), or in proportion to
its difficulty, the share of a solver's answers that are wrong (prop2diff). Here the seeds are labels of
`stage=fail_rate`, and the column `answers_wanted` holds how many samples are expected to bring so many right ones, at
most `most`; stage=answers follows it. `select` then keeps the right ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sq.core.config import setting
from sq.synth.allocation import ALLOCATIONS, samples_wanted
from sq.synth.sources.fixed import FixedSource


@dataclass(frozen=True, kw_only=True)
class DartSource(FixedSource):
    """The seeds' questions, each with a number of answers by its difficulty."""

    need: ClassVar = ("question", "fail_rate", "n")

    allocation: str = setting(
        "prop2diff", choices=ALLOCATIONS, help="right answers: k to each, or up to k by difficulty"
    )
    k: int = setting(4, ge=1, help="right answers wanted: of each question, or of one that is always failed")
    most: int = setting(64, ge=1, help="samples of a question at most; one that was never solved has so many")

    def columns(self, row: dict[str, Any]) -> dict[str, Any]:
        """How many answers to sample."""
        return {"operation": self.allocation, "answers_wanted": self.wanted(float(row["fail_rate"]))}

    def wanted(self, fail_rate: float) -> int:
        """Samples of a question with this fail rate."""
        return samples_wanted(fail_rate, allocation=self.allocation, right=self.k, most=self.most)
