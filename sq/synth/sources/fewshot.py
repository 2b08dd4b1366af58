"""`source=fewshot`: a new question after the pattern of seeds in the prompt (Self-Instruct, arXiv 2212.10560).

Taken of it is the one step of generating from in-context examples; the pool of examples is the seeds alone and does not
grow with what was written, so that an item depends on no other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from sq.core.config import setting
from sq.synth.sources.prompted import Item, PromptedSource, Turn, Turns, Writing


@dataclass(frozen=True, kw_only=True)
class FewshotSource(PromptedSource):
    """A model writes one more question like `shots` seeds."""

    roles: ClassVar = ("another",)
    all_seeds: ClassVar = True

    shots: int = setting(4, ge=1, help="seeds in a prompt, drawn for each item")

    def turns(self, seeds: list[dict[str, object]]) -> Turns:  # type: ignore[override]
        """Some seeds at random, in random order."""
        return _Drawn(seeds, self.shots)

    def write(self, item: Item) -> Writing:
        """Show the seeds, take the new question."""
        examples = "\n\n".join(f"<question>\n{seed['question']}\n</question>" for seed in item.turn.seeds)
        item.add((yield from item.ask("another", examples=examples)))


@dataclass(frozen=True)
class _Drawn(Turns):
    shots: int = 1

    def at(self, index: int, rng: random.Random) -> Turn:
        return Turn(seeds=tuple(rng.sample(self.seeds, min(self.shots, len(self.seeds)))))
