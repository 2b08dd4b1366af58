"""`source=evol`: questions evolved upward and downward (WizardMath, arXiv 2308.09583, its Math Evol-Instruct).

Taken of it is the first step, the evolution of instructions: upward adds constraints, makes them concrete or adds
steps of reasoning, downward makes them easier or writes an easier one on another subject. Each round starts from the
question of the round before, and each round's question is a row. Its reward models and PPO are no part of a source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sq.core.config import setting
from sq.synth.sources.prompted import Item, PromptedSource, Writing


@dataclass(frozen=True, kw_only=True)
class EvolSource(PromptedSource):
    """A model evolves each seed over `rounds`, upward or downward."""

    roles: ClassVar = ("upward", "downward")

    rounds: int = setting(3, ge=1, help="questions of a seed, each evolved from the one before")
    upward_share: float = setting(0.7, ge=0, le=1, help="share of rounds that make the question harder")
    upward: dict[str, str] = setting({}, help="ways to make a question harder: name -> what the prompt says")
    downward: dict[str, str] = setting({}, help="ways to make it easier")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.upward or not self.downward:
            raise ValueError("upward and downward each need a way, name: text")

    @property
    def asks(self) -> Mapping[str, float]:
        """A round asks upward or downward."""
        up = self.rounds * self.upward_share
        return {self.prompts["upward"].template: up, self.prompts["downward"].template: self.rounds - up}

    @property
    def per_item(self) -> float:
        """One a round."""
        return float(self.rounds)

    def write(self, item: Item) -> Writing:
        """Evolve the question round by round, the way drawn for each."""
        for _ in range(self.rounds):
            role = "upward" if item.rng.random() < self.upward_share else "downward"
            ways: dict[str, str] = getattr(self, role)
            name = item.rng.choice(sorted(ways))
            question = yield from item.ask(role, question=item.question, way=ways[name])
            item.add(question, f"{role}:{name}")
