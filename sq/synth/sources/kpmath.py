"""`source=kpmath`: key points of topics that co-occur, with seeds as examples (KPMath, arXiv 2403.02333).

The seeds come from `stage=annotate`, which extracts topics and key points. Taken of it: topics are drawn by the
topic-level co-occurrence matrix, key points of each drawn topic, and the prompt shows seeds of these topics. Its vote
of several answers on each question is stage=answers with stage=select keep or method.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sq.core.config import setting
from sq.synth.sources.concepts import ConceptGraph, distinct
from sq.synth.sources.prompted import Item, PromptedSource, Turn, Turns, Writing


@dataclass(frozen=True, kw_only=True)
class KPMathSource(PromptedSource):
    """A question about key points of two topics that stand together in seeds."""

    roles: ClassVar = ("compose",)
    need: ClassVar = ("question", "concepts")
    all_seeds: ClassVar = True

    points: int = setting(2, ge=1, help="key points of each topic")

    def turns(self, seeds: Sequence[dict[str, Any]]) -> Turns:
        """Two topics, their key points, a seed of each."""
        return _KeyPoints(seeds, ConceptGraph.of(seeds), self.points)

    def write(self, item: Item) -> Writing:
        """Ask for a question about the key points, seeds as examples."""
        examples = "\n\n".join(f"Example: {seed['question']}" for seed in item.turn.seeds)
        question = yield from item.ask("compose", concepts="\n".join(item.turn.concepts), examples=examples)
        item.add(question, "key_points")


@dataclass(frozen=True)
class _KeyPoints(Turns):
    graph: ConceptGraph
    points: int

    def at(self, index: int, rng: random.Random) -> Turn:
        graph = self.graph
        names = sorted(graph.topics)
        first = rng.choices(names, [graph.topics[name] for name in names])[0]
        beside = graph.topic_pairs[first]
        others = sorted(beside)
        topics = [first, *(rng.choices(others, [beside[name] for name in others]) if others else [])]
        concepts = []
        for topic in topics:
            own = sorted(graph.points[topic])
            concepts += [topic, *rng.sample(own, min(self.points, len(own)))]
        numbers = dict.fromkeys(rng.choice(graph.of_topic[topic]) for topic in topics)
        return Turn(seeds=tuple(self.seeds[number] for number in numbers), concepts=distinct(concepts))
