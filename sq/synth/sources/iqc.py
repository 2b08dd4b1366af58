"""`source=iqc`: iterative question composing (MMIQC, arXiv 2401.09003).

Each round asks for a harder question of which the one before is a sub-problem, so that its answer is needed on the way.
The paper has the model write the solution too, and keeps it if another model's answer agrees: here stage=answers and
stage=select do that for every source alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sq.core.config import setting
from sq.synth.sources.prompted import Item, PromptedSource, Writing


@dataclass(frozen=True, kw_only=True)
class IQCSource(PromptedSource):
    """Questions that have the one before as a part, over `rounds`."""

    roles: ClassVar = ("compose",)

    rounds: int = setting(3, ge=1, help="questions of a seed, each composed from the one before")

    @property
    def per_item(self) -> float:
        """One a round."""
        return float(self.rounds)

    def write(self, item: Item) -> Writing:
        """Compose round by round."""
        for _ in range(self.rounds):
            item.add((yield from item.ask("compose", question=item.question)), "compose")
