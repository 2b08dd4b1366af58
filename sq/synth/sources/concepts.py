"""Concepts of seeds, as `stage=annotate` writes them ("topic: knowledge point"), and what co-occurs: the ground that
`source=mathscale` and `source=kpmath` draw from."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sq.core.errors import ConfigError

T = TypeVar("T")


def split_concept(concept: str) -> tuple[str, str]:
    """The topic and the knowledge point of "topic: point"; a concept without a colon is its own topic."""
    topic, _, point = concept.partition(":")
    return _plain(topic), _plain(point)


@dataclass
class ConceptGraph:
    """Topics and knowledge points of all seeds, and how often two stand in one seed."""

    topics: Counter[str] = field(default_factory=Counter)
    points: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Of each topic, its knowledge points."""
    topic_pairs: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    point_pairs: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    of_topic: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Of each topic, the numbers of the seeds that have it."""

    @classmethod
    def of(cls, seeds: Sequence[Mapping[str, Any]]) -> ConceptGraph:
        """The graph of the seeds' concepts.

        Raises:
            ConfigError: where they name no topic.
        """
        graph = cls()
        for number, seed in enumerate(seeds):
            named = [split_concept(concept) for concept in seed["concepts"]]
            topics = list(dict.fromkeys(topic for topic, _ in named if topic))
            points = list(dict.fromkeys(point for _, point in named if point))
            graph.topics.update(topics)
            for topic, point in named:
                if topic and point:
                    graph.points[topic][point] += 1
            for names, pairs in ((topics, graph.topic_pairs), (points, graph.point_pairs)):
                for one in names:
                    pairs[one].update(other for other in names if other != one)
            for topic in topics:
                graph.of_topic[topic].append(number)
        if seeds and not graph.topics:
            raise ConfigError(
                "no row of the input has a concept with a topic ('algebra: slope'): run stage=annotate on it"
            )
        return graph


def drawn_by_log(counts: Mapping[T, int], rng: random.Random) -> T | None:
    """One of them, its weight the logarithm of one more than its count; None of nothing."""
    if not counts:
        return None
    names = sorted(counts, key=str)
    return rng.choices(names, [math.log1p(counts[name]) for name in names])[0]


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Each once, in their order."""
    return tuple(dict.fromkeys(names))


def _plain(name: str) -> str:
    return " ".join(name.lower().split()).strip(" .*-")
