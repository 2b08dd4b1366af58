"""Where a student is weak: the share of wrong answers by topic, and within a topic by knowledge point.

Rows are what `stage=annotate` makes of an evaluation's scores (`correct`) or of labels of `stage=fail_rate`. A topic is
the row's `topic` where it has one, else the topics of its concepts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sq.core.errors import ConfigError
from sq.synth.sources.concepts import split_concept


@dataclass
class Tally:
    """Answers, and how many of them are wrong."""

    wrong: float = 0.0
    total: float = 0.0


@dataclass
class Weakness:
    """Wrong answers in all, by topic, and by concept within a topic."""

    every: Tally = field(default_factory=Tally)
    topics: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    concepts: dict[str, dict[str, Tally]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Tally)))

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Weakness:
        """Count the rows.

        Raises:
            ConfigError: where no row says how it was answered.
        """
        weakness = cls()
        for row in rows:
            if (wrong := wrong_share(row)) is None:
                continue
            names = topics_of(row)
            tallies = [weakness.every, *(weakness.topics[name] for name in names)]
            for name in names:
                tallies += [weakness.concepts[name][concept] for concept in _concepts_of(row, name)]
            for tally in tallies:
                tally.wrong, tally.total = tally.wrong + wrong, tally.total + 1
        if not weakness.topics:
            raise ConfigError(
                "no row of the input has a topic and says how it was answered: annotate an evaluation's scores "
                "(input=EVALUATION/BENCHMARK/scores, column correct) or labels of stage=fail_rate (column fail_rate)"
            )
        return weakness

    def share(self, tally: Tally) -> float:
        """The share of wrong answers, drawn a little towards that of all: one more answer, as wrong as the average."""
        return (tally.wrong + self.every.wrong / self.every.total) / (tally.total + 1)

    def weight(self, tally: Tally, power: float) -> float:
        """How often a question is drawn from it: at power 1 as its wrong answers, at 0 as all its answers."""
        return float(tally.total * self.share(tally) ** power)

    @property
    def weak(self) -> list[str]:
        """The topics whose share of wrong answers is above that of all, the weakest first."""
        average = self.every.wrong / self.every.total
        shares = {name: self.share(tally) for name, tally in self.topics.items()}
        return sorted((n for n, share in shares.items() if share > average), key=lambda n: (-shares[n], n))


def wrong_share(row: Mapping[str, Any]) -> float | None:
    """How much of the answers to a row is wrong; None where it does not say."""
    if row.get("correct") is not None:
        return float(not row["correct"])
    return None if row.get("fail_rate") is None else float(row["fail_rate"])


def topics_of(row: Mapping[str, Any]) -> list[str]:
    """What a row is about."""
    if row.get("topic"):
        return [str(row["topic"])]
    return [name for name in dict.fromkeys(split_concept(c)[0] for c in row.get("concepts") or ()) if name]


def _concepts_of(row: Mapping[str, Any], topic: str) -> list[str]:
    """The concepts of a row that belong to one of its topics: all, where the topic is the row's own."""
    return [c for c in row.get("concepts") or () if row.get("topic") or split_concept(c)[0] == topic]
