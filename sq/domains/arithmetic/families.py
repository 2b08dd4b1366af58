"""All the problem families, and how to write one question of a given number of steps."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sq.domains.arithmetic.chain_families import CHAINS
from sq.domains.arithmetic.chains import write_chain
from sq.domains.arithmetic.oracle import QuestionAnalysis, analyse
from sq.domains.arithmetic.pairs import PAIRS, write_pair
from sq.domains.arithmetic.scenarios import SCENARIOS
from sq.domains.arithmetic.story import LIMIT, RetryError, Story
from sq.domains.arithmetic.world import needed

MOST_STEPS = 6


@dataclass(frozen=True)
class Family:
    """A scenario, the steps it can need, and how it is told."""

    name: str
    low: int
    high: int
    write: Callable[[Story, int], None]


FAMILIES: dict[str, Family] = {
    **{n: Family(n, max(1, min(c.ends.values())), 6, functools.partial(write_chain, c)) for n, c in CHAINS.items()},
    **{n: Family(n, p.low, p.high, functools.partial(write_pair, p)) for n, p in PAIRS.items()},
    **{n: Family(n, low, high, write) for n, (low, high, write) in SCENARIOS.items()},
}


@dataclass(frozen=True)
class Problem:
    """A question that the oracle solved from its text."""

    question: str
    answer: str
    solution: str
    steps: int
    family: str


def problem(
    rng: random.Random,
    *,
    low: int = 1,
    high: int = MOST_STEPS,
    families: Sequence[str] | None = None,
    accept: Callable[[str], bool] | None = None,
) -> Problem:
    """Write one question that needs between `low` and `high` steps and is to `accept`, with its worked solution."""
    while True:
        steps = rng.randint(low, high)
        family = FAMILIES[_choose(rng, steps, tuple(families) if families else tuple(FAMILIES))]
        for _ in range(12):
            story = write_story(rng, family, steps)
            if story is None:
                continue
            if accept is not None and not accept(story.text):
                break  # and draw the family anew: what is accepted shall be a fair sample
            written = solve_story(story, family, steps)
            if written is not None:
                return written


def write_story(rng: random.Random, family: Family, steps: int) -> Story | None:
    """A story of the family, if it came out with the right number of steps."""
    story = Story(rng, pronouns=family.name not in PAIRS)
    try:
        family.write(story, steps)
    except RetryError:
        return None
    return story if story.asked is not None and len(needed(story.asked)) == steps else None


def solve_story(story: Story, family: Family, steps: int) -> Problem | None:
    """The problem as the oracle reads it in the text alone."""
    analysis = analyse(story.text)
    if analysis.solvable and analysis.steps == steps and analysis.peak <= LIMIT:
        return as_problem(story.text, analysis, family.name)
    return None


def as_problem(question: str, analysis: QuestionAnalysis, family: str) -> Problem:
    return Problem(question, str(analysis.answer), analysis.solution or "", analysis.steps, family)


@functools.cache
def _able(steps: int, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if FAMILIES[name].low <= steps <= FAMILIES[name].high)


def _choose(rng: random.Random, steps: int, names: tuple[str, ...]) -> str:
    able = _able(steps, names) or names
    return able[int(rng.random() * len(able))]
