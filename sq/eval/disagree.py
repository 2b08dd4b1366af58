"""Where graders disagree: the outputs that one profile accepts and another does not, with both reasons.

The choice of grader has moved a published score by ten points; this shows which outputs it would move here, and what
the score would read under each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sq.eval.grade import Grade, Pair
from sq.eval.grader import Grader
from sq.eval.grader_config import Profile


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One output on which profiles differ: its place among the pairs, the pair, and each profile's grade."""

    index: int
    pair: Pair
    grades: dict[str, Grade]

    @property
    def reason(self) -> str:
        """What each profile holds, in a line."""
        return "; ".join(
            f"{name}: {g.status.value} ({g.reason}; answer {g.extracted[:80]!r} from {g.location.value})"
            for name, g in self.grades.items()
        )


class Disagreements:
    """Grades pairs under several profiles, yields those that differ, and keeps the score under each.

    Args:
        grader: where the pairs are graded.
        profiles: the profiles to compare.
    """

    def __init__(self, grader: Grader, profiles: Sequence[str] = ("strict", "dart")) -> None:
        self.grader = grader
        self.profiles = [Profile(p) for p in profiles]
        self.pairs = 0
        self.differing = 0
        self.correct: Counter[str] = Counter()

    def of(self, pairs: Iterable[Pair]) -> Iterator[Disagreement]:
        """The pairs on which the profiles disagree about correctness, in order."""
        stream = iter(pairs)
        while chunk := list(islice(stream, 512)):
            columns = [list(self.grader.grade(chunk, profile)) for profile in self.profiles]
            for pair, grades in zip(chunk, zip(*columns, strict=True), strict=True):
                index, self.pairs = self.pairs, self.pairs + 1
                self.correct.update(g.profile.value for g in grades if g.correct)
                if len({g.correct for g in grades}) > 1:
                    self.differing += 1
                    yield Disagreement(index=index, pair=pair, grades={g.profile.value: g for g in grades})

    def scores(self) -> dict[str, float]:
        """The share that is correct under each profile, of the pairs seen so far."""
        return {p.value: self.correct[p.value] / self.pairs if self.pairs else 0.0 for p in self.profiles}
