"""`source=concepts`: questions on the topics that a student fails, drawn by weakness (SwS, arXiv 2506.08989).

The seeds are an evaluation's answers, annotated. Taken of it: the budget goes to topics by their failures, concepts of
failed problems are drawn together, and a question is written for them. Its difficulty and its checks are filters here.
No problem's text is in the prompt, so that a benchmark that measures weakness does not leak into what is trained on.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from sq.core.config import setting
from sq.core.errors import ConfigError
from sq.synth.sources.concepts import distinct, split_concept
from sq.synth.sources.prompted import Item, PromptedSource, Turn, Turns, Writing
from sq.synth.sources.weakness import Tally, Weakness, topics_of, wrong_share


@dataclass(frozen=True, kw_only=True)
class WeakConceptsSource(PromptedSource):
    """A question on a topic, and on knowledge points of it, that problems were failed on."""

    roles: ClassVar = ("practise",)
    need: ClassVar = ("question", "concepts")
    all_seeds: ClassVar = True

    points: int = setting(2, ge=1, help="at most so many concepts of the topic in a question")
    power: float = setting(1.0, ge=0, help="topics weigh their answers × share of wrong ones to this power; 0: as all")

    def turns(self, seeds: Sequence[dict[str, Any]]) -> Turns:
        """A topic by its weakness, and concepts of it by theirs."""
        weakness = Weakness.of(seeds)
        if not weakness.every.wrong and self.power:
            raise ConfigError(
                "every answer of the input is right, so no topic is weak: take harder problems, or "
                "stage.source.power=0 to draw topics as often as all answers"
            )
        return _Practice(seeds, weakness, self.points, self.power)

    def write(self, item: Item) -> Writing:
        """Ask for a question about the concepts; its topic is the one that was drawn."""
        question = yield from item.ask("practise", concepts="\n".join(item.turn.concepts))
        item.add(question, "practise", topic=item.turn.concepts[0])


@dataclass(frozen=True)
class _Practice(Turns):
    weakness: Weakness
    points: int
    power: float

    def at(self, index: int, rng: random.Random) -> Turn:
        topic = self._drawn(self.weakness.topics, rng)
        left = dict(self.weakness.concepts[topic])
        drawn: list[str] = []
        while left and len(drawn) < self.points:
            drawn.append(self._drawn(left, rng))
            del left[drawn[-1]]
            if rng.random() < 0.5:  # one concept as often as several
                break
        parts = (part for concept in drawn for part in split_concept(concept) if part)
        return Turn(seeds=(self._problem(topic, rng),), concepts=distinct([topic, *parts]))

    def _drawn(self, tallies: Mapping[str, Tally], rng: random.Random) -> str:
        names = sorted(tallies)
        return rng.choices(names, [self.weakness.weight(tallies[name], self.power) for name in names])[0]

    def _problem(self, topic: str, rng: random.Random) -> dict[str, Any]:
        """A problem of the topic, which becomes the parent: one that was failed, where there is one."""
        failed, others = self._problems[topic]
        return self.seeds[rng.choice(failed or others)]

    @cached_property
    def _problems(self) -> dict[str, tuple[list[int], list[int]]]:
        """By topic the numbers of its problems, failed and not."""
        numbers: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for number, seed in enumerate(self.seeds):
            for topic in topics_of(seed):
                numbers[topic][0 if wrong_share(seed) else 1].append(number)
        return numbers
