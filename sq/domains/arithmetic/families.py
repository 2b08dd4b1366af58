"""The problem families, and how to write one question of a given number of steps.

Sentences are written and carried out at once, so every number can be chosen to fit. Numbers stay where a small model
can learn them: sums and differences up to 50, products and quotients of its tables.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sq.domains.arithmetic.grammar import Kind, Slots
from sq.domains.arithmetic.lexicon import GENDER, POOLS
from sq.domains.arithmetic.oracle import PAIRS, analyse, execute
from sq.domains.arithmetic.roles import Theme
from sq.domains.arithmetic.themes import KINDS, THEMES
from sq.domains.arithmetic.world import Node, UnsolvableError, World, needed

T = TypeVar("T")
MOST_STEPS = 5
LIMIT = 50
OTHER = {**PAIRS, "S": "S"}


class RetryError(Exception):
    """The numbers drawn so far do not admit what comes next: draw again."""


FAMILIES = {theme.name: theme for theme in THEMES}
KNOWN = tuple(theme.name for theme in THEMES if not theme.held_out)
"""Families of the seeds and of the usual test; the others are out of their domain."""
_ADDING = ("add", "wider", "more", "later")
_TAKING = ("sub", "narrower", "fewer", "give", "earlier")


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
    families: Sequence[str] = KNOWN,
    accept: Callable[[str], bool] | None = None,
    asks: str | None = None,
) -> Problem:
    """Write one question that needs between `low` and `high` steps and is to `accept`, with its worked solution.

    `asks`: the role of its last sentence, any where it is None. Some family must be able to ask it in so few steps.
    """
    while True:
        steps = rng.randint(low, high)
        names = _able(steps, tuple(families))
        family = FAMILIES[names[int(rng.random() * len(names))]]
        for _ in range(40):
            story = write_story(rng, family, steps, asks)
            if story is None:
                continue
            if accept is not None and not accept(story.text):
                break  # and draw the family anew: what is accepted shall be a fair sample
            written = solve_story(story, family, steps)
            if written is not None:
                return written


def write_story(rng: random.Random, family: Theme, steps: int, asks: str | None = None) -> Story | None:
    """A story of the family, if it came out with the right number of steps."""
    story = Story(rng, family)
    try:
        story.write(steps, asks)
    except RetryError:
        return None
    return story if story.asked is not None and len(needed(story.asked)) == steps else None


def solve_story(story: Story, family: Theme, steps: int) -> Problem | None:
    """The problem as the oracle reads it in the text alone."""
    analysis = analyse(story.text)
    if analysis.solvable and analysis.steps == steps and analysis.peak <= LIMIT:
        return Problem(story.text, str(analysis.answer), analysis.solution or "", steps, family.name)
    return None


@functools.cache
def _able(steps: int, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if steps <= FAMILIES[name].most_steps) or names


class Story:
    """Sentences so far, and the world after them."""

    def __init__(self, rng: random.Random, theme: Theme) -> None:
        self.rng, self.theme, self.world = rng, theme, World()
        self.sentences: list[str] = []
        self.asked: Node | None = None
        slot = theme.quantity.slot
        self.fresh = rng.sample(POOLS[slot], 5)
        self.slots: Slots = {letter: self.choose(pool) for letter, pool in POOLS.items() if letter != slot}
        self.slots[slot] = self.fresh.pop()
        self.mentioned: list[str] = []
        self.shown: str | None = None
        """Who the last sentence named, where it named one person."""

    @property
    def text(self) -> str:
        return " ".join(self.sentences)

    def write(self, steps: int, asks: str | None = None) -> None:
        """A statement; changes and comparisons; and the question, `steps` operations in all."""
        kinds = KINDS[self.theme.name]
        ends = [k for k in kinds if k.role.asks and k.role.cost <= steps]
        end = self.choose(ends if asks is None else [k for k in ends if k.role.name == asks])
        left = steps - end.role.cost
        self.add(self.choose([k for k in kinds if k.role.states and k.role.cost <= left]))
        left = steps - end.role.cost - self.cost()
        while left > 0:
            options = [k for k in kinds if not k.role.states and not k.role.asks and k.role.cost <= left]
            self.add(self.choose(options))
            left = steps - end.role.cost - self.cost()
        if end.role.pair and len(self.mentioned) < 2:
            self.add(self.choose([k for k in kinds if k.role.states and not k.role.cost]), new=True)
        self.add(end)

    def cost(self) -> int:
        """Operations so far that the quantity at hand needs."""
        return len(needed(self.world.get(self.key())))

    def key(self) -> str:
        return self.theme.quantity.of(self.slots)

    def partner(self) -> str:
        """Another one that the story has spoken of."""
        return self.choose([name for name in self.mentioned if name != self.slots[self.theme.quantity.slot]])

    def add(self, kind: Kind, *, new: bool = False) -> None:
        """Write one sentence of the kind, and do what it says."""
        slot = self.theme.quantity.slot
        slots = self.slots
        if kind.role.compares or new:  # the new one becomes the one at hand
            if not self.fresh:
                raise RetryError
            slots = {**slots, slot: self.fresh.pop(), OTHER[slot]: slots[slot]}
        elif kind.role.pair:
            slots = {**slots, OTHER[slot]: self.partner()}
        slots = {**slots, **self.numbers(kind, slots)}
        self.sentences.append(self.render(kind, slots))
        before = len(self.world.nodes)
        try:
            node = execute(self.world, kind, slots)
        except UnsolvableError as error:
            raise RetryError from error
        if kind.role.asks:
            self.asked = node
        if not all(learnable(node) for node in self.world.nodes[before:]):
            raise RetryError
        self.slots = slots
        if slots[slot] not in self.mentioned:
            self.mentioned.append(slots[slot])

    def render(self, kind: Kind, slots: Slots) -> str:
        """The sentence; who was named just before may be "he" or "she"."""
        template = self.choose(kind.templates)
        name, alone = slots.get("A"), template.text.startswith("{A} ") and "B" not in template.slots
        shown = slots
        if alone and name == self.shown and self.rng.random() < 0.4 and not kind.role.asks:
            shown = {**slots, "A": GENDER[str(name)]}
        self.shown = name if alone else None
        return template.render(shown)

    def numbers(self, kind: Kind, slots: Slots) -> dict[str, Any]:
        """Numbers that fit the role of the sentence and how large the quantity is by now."""
        role, high = kind.role.name, self.theme.high
        node = self.world.now.get(self.theme.quantity.of(slots if not kind.role.compares else self.slots))
        now = node.value if node is not None else 0
        if type(now) is not int:
            raise RetryError
        if role in ("state", "sides"):
            return {"n": self.number(2, high), **({"m": self.number(2, high)} if role == "sides" else {})}
        if role in _ADDING:
            return {"n": self.number(2, min(high, LIMIT - now))}
        if role in _TAKING:
            return {"n": self.number(2, min(20, now - 1))}
        if role in ("groups", "up", "down"):
            n = self.number(2, 9)
            room = {"groups": high, "up": LIMIT - now, "down": now - 1}[role]
            return {"n": n, "k": self.number(2, min(9, room // n))}
        if role in ("part", "fraction"):
            return {"F": (1, self.choose([d for d in (2, 3, 4, 5) if now % d == 0 and now > d]))}
        if role == "times":
            return {"M": self.number(2, min(5, LIMIT // max(now, 1)))}
        if role in ("mul", "cost"):
            return {"k": self.number(2, min(9, LIMIT // max(now, 1)))}
        if role in ("div", "share", "fill"):
            by = self.choose([d for d in range(2, 11) if now % d == 0 and now > d])
            return {"k": by, "n": by}
        if role == "need":
            return {"n": self.number(now + 2, min(LIMIT, now + 20))}
        if role == "rest":
            k = self.number(2, min(9, (LIMIT - 2) // max(now, 1)))
            return {"k": k, "n": self.number(now * k + 1, LIMIT)}
        return {"k": self.number(2, 6), "m": self.number(2, 6)}  # of a question about two

    def choose(self, options: Sequence[T]) -> T:
        if not options:
            raise RetryError
        return options[int(self.rng.random() * len(options))]

    def number(self, low: int, high: int) -> int:
        """A number between the two."""
        if high < low:
            raise RetryError
        return low + int(self.rng.random() * (high - low + 1))


def learnable(node: Node) -> bool:
    """Whether an operation lies within what a small model can know."""
    if type(node.value) is not int or node.left is None or node.right is None:
        return node.value is None or (type(node.value) is int and 0 <= node.value <= LIMIT)
    left, right, value = node.left.value, node.right.value, node.value
    assert left is not None and right is not None
    if node.op == "*":
        return table(int(left), int(right))
    if node.op == "/":
        return table(value, int(right))
    return 0 <= value <= LIMIT


def table(left: int, right: int) -> bool:
    """Up to 10 times 10, or one of them 2 or 3, and never above the limit."""
    small, large = sorted((left, right))
    return left * right <= LIMIT and (large <= 10 or small <= 5)
