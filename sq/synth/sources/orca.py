"""`source=orca`: a suggester and an editor (Orca-Math, arXiv 2402.14830, its Agent-Instruct flow).

Taken of it are the two agents that make a problem harder: the suggester names changes without carrying them out, the
editor makes the new problem by them. Rounds go on from the edited problem. Its first agent, which turns seeds into
more problems of their level, is what source=metamath and source=fewshot do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sq.core.config import setting
from sq.synth.sources.prompted import Item, PromptedSource, Writing


@dataclass(frozen=True, kw_only=True)
class OrcaSource(PromptedSource):
    """Suggestions on a question, then the question edited by them."""

    roles: ClassVar = ("suggest", "edit")

    rounds: int = setting(2, ge=1, help="times that a question is edited, each a row")

    @property
    def per_item(self) -> float:
        """One a round."""
        return float(self.rounds)

    def write(self, item: Item) -> Writing:
        """Two requests a round."""
        for _ in range(self.rounds):
            suggestions = yield from item.ask("suggest", question=item.question)
            item.add((yield from item.ask("edit", question=item.question, suggestions=suggestions)), "edit")
