"""`source=backtranslate`: from an augmented solution back to a question (MathGenie, arXiv 2402.16352).

Taken of it are its first two steps: the seed's solution is augmented, round by round, and each augmented solution is
translated back into a question. Seeds must have a solution. The paper tunes a model for each step; here both are
prompts. Its third step, verified solutions to the new questions, is stage=answers and stage=select.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sq.core.config import setting
from sq.synth.sources.prompted import Item, PromptedSource, Writing


@dataclass(frozen=True, kw_only=True)
class BacktranslateSource(PromptedSource):
    """Questions to solutions that were augmented from the seeds'."""

    roles: ClassVar = ("augment", "translate")
    need: ClassVar = ("question", "solution")

    rounds: int = setting(1, ge=1, help="times that the solution is augmented, each a question")

    @property
    def per_item(self) -> float:
        """One a round."""
        return float(self.rounds)

    def write(self, item: Item) -> Writing:
        """Augment the solution, translate it back; the question before shows the translator the form."""
        solution = str(item.seed["solution"])
        for _ in range(self.rounds):
            before = item.question
            solution = yield from item.ask("augment", question=before, solution=solution)
            question = yield from item.ask("translate", question=before, solution=solution)
            item.add(question, "backtranslate", solution=solution)
