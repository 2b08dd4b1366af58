"""Questions spoiled on purpose, to measure a judge: what it lets through of them, and what it wrongly removes.

A sentence with a number is dropped, a number becomes "some", the question itself goes, or a statement is repeated with
another number. Where the domain has an oracle only variants that it confirms count, and only questions that it calls
solvable. Elsewhere nobody knows which of the questions can be solved as they came, so that what the judge removes of
those is no error rate. There is no precision: as many spoiled as unspoiled are no mix that a run has.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from sq.core.intervals import wilson
from sq.core.yes_no import YesNo
from sq.domains.base import Domain

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z$\\])")
NUMBER = re.compile(r"(?<![\w.$\\^_{])\d+(?![\w.}^])")


class SyntheticNegatives:
    """Collects the first questions that can be spoiled, each with its variant."""

    def __init__(self, count: int, domain: Domain, seed: int) -> None:
        self._count, self._domain, self._seed = count, domain, seed
        self._pairs: dict[str, str] = {}

    def consider(self, question: str) -> None:
        """Take this question, if more are needed and it can be spoiled."""
        if len(self._pairs) >= self._count or question in self._pairs:
            return
        label = self._domain.oracle_label(question)
        if label is not None and not label.solvable:
            return
        if (
            variant := unsolvable_variant(question, random.Random(f"{self._seed}:{question}"), self._domain)
        ) is not None:
            self._pairs[question] = variant

    def texts(self) -> list[str]:
        """The questions as they came, then their variants."""
        return [*self._pairs, *self._pairs.values()]

    def metrics(self, answers: Sequence[YesNo]) -> dict[str, float]:
        """What the judge removes of the spoiled and of the unspoiled, each with its 95% interval."""
        half = len(self._pairs)
        metrics = {"judge/planted": float(half), "judge/asked": float(self._count)}
        metrics["judge/unparsable"] = answers.count(YesNo.UNPARSABLE) / max(len(answers), 1)
        unspoiled = "removed_as_they_came" if self._domain.oracle_label("") is None else "wrongly_removed"
        for name, some in (("recall", answers[half:]), (unspoiled, answers[:half])):
            removed = sum(answer.reject_reason is not None for answer in some)
            low, high = wilson(removed, half)
            metrics |= {f"judge/{name}": removed / max(half, 1), f"judge/{name}_low": low, f"judge/{name}_high": high}
        return metrics


def unsolvable_variant(question: str, rng: random.Random, domain: Domain) -> str | None:
    """An unsolvable variant of a question, or None where no way of spoiling it works."""
    ways: list[Callable[[list[str], random.Random], list[str] | None]] = [_dropped, _vague, _unasked, _contradicted]
    rng.shuffle(ways)
    for way in ways:
        changed = way(SENTENCE.split(question.strip()), rng)
        text = " ".join(changed) if changed else ""
        if not text or text == question:
            continue
        label = domain.oracle_label(text)
        if label is None or not label.solvable:
            return text
    return None


def _stating(sentences: list[str]) -> list[int]:
    return [i for i, sentence in enumerate(sentences[:-1]) if NUMBER.search(sentence)]


def _dropped(sentences: list[str], rng: random.Random) -> list[str] | None:
    places = _stating(sentences)
    if not places:
        return None
    place = rng.choice(places)
    return sentences[:place] + sentences[place + 1 :]


def _vague(sentences: list[str], rng: random.Random) -> list[str] | None:
    places = _stating(sentences)
    if not places:
        return None
    place = rng.choice(places)
    return [*sentences[:place], NUMBER.sub("some", sentences[place], count=1), *sentences[place + 1 :]]


def _unasked(sentences: list[str], rng: random.Random) -> list[str] | None:
    return sentences[:-1] if len(sentences) > 1 and sentences[-1].endswith("?") else None


def _contradicted(sentences: list[str], rng: random.Random) -> list[str] | None:
    places = _stating(sentences)[:1]  # what changes later may well be said twice; what is given first may not
    if not places:
        return None
    again = NUMBER.sub(lambda number: str(int(number[0]) + rng.randint(2, 9)), sentences[places[0]], count=1)
    return [*sentences[: places[0] + 1], again, *sentences[places[0] + 1 :]]
