"""`source=mathscale`: concepts of seeds, a graph of what co-occurs, a random walk, a question (MathScale, 2403.02884).

The seeds come from `stage=annotate`, which extracts topics and knowledge points (its step 1). Here are the graph, whose
edges weigh the logarithm of co-occurrence (2), the walk from a topic over topics to a knowledge point and on over
knowledge points (3), and the question for what the walk met (4), which has no seed's text in its prompt.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sq.core.config import setting
from sq.synth.sources.concepts import ConceptGraph, distinct, drawn_by_log
from sq.synth.sources.prompted import Item, PromptedSource, Turn, Turns, Writing


@dataclass(frozen=True, kw_only=True)
class MathScaleSource(PromptedSource):
    """A question about the concepts of a random walk."""

    roles: ClassVar = ("compose",)
    need: ClassVar = ("question", "concepts")
    all_seeds: ClassVar = True

    topic_steps: int = setting(2, ge=0, help="at most so many steps from topic to topic")
    point_steps: int = setting(4, ge=0, help="at most so many steps from knowledge point to knowledge point")

    def turns(self, seeds: Sequence[dict[str, Any]]) -> Turns:
        """A walk on the graph of all seeds."""
        return _Walks(seeds, ConceptGraph.of(seeds), self)

    def write(self, item: Item) -> Writing:
        """Ask for a question about the concepts."""
        item.add((yield from item.ask("compose", concepts="\n".join(item.turn.concepts))), "walk")


@dataclass(frozen=True)
class _Walks(Turns):
    graph: ConceptGraph
    source: MathScaleSource

    def at(self, index: int, rng: random.Random) -> Turn:
        graph = self.graph
        start = topic = rng.choice(sorted(graph.topics))
        topics, points = [topic], []
        for _ in range(rng.randint(0, self.source.topic_steps)):
            topic = drawn_by_log(graph.topic_pairs[topic], rng) or topic
            topics.append(topic)
        point = drawn_by_log(graph.points[topic], rng)
        for _ in range(1 + rng.randint(0, self.source.point_steps)):
            if point is not None:
                points.append(point)
                point = drawn_by_log(graph.point_pairs[point], rng)
        seed = self.seeds[rng.choice(graph.of_topic[start])]  # whose concepts it began with: its parent
        return Turn(seeds=(seed,), concepts=distinct([*topics, *points]))
