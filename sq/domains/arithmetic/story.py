"""A question in the making: sentences are written and carried out at once, so every number can be chosen to fit.

Numbers stay where a small model can learn them: sums and differences up to 100, the tables up to 10 by 10 (and two- and
threefold up to 100), exact division.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

from sq.domains.arithmetic.grammar import Kind, Slots, Template
from sq.domains.arithmetic.lexicon import DAYS, GENDER, ITEMS, NAMES, THINGS
from sq.domains.arithmetic.oracle import KINDS, OPENINGS, execute
from sq.domains.arithmetic.world import Node, Number, UnsolvableError, World, needed

T = TypeVar("T")
LIMIT = 100
LOSING = frozenset("sub eat give down part both swap spend daily buy two spill read rate go times more lose".split())
"""The second half of the names of kinds after which something may be "left"."""
CHANGING = LOSING | frozenset("add up earn gift wage save sell rows mul div gain again stop faster".split())
"""And of those that change a quantity."""


class RetryError(Exception):
    """The numbers drawn so far do not admit what comes next: draw again."""


class Story:
    """Sentences so far, and the world after them."""

    def __init__(self, rng: random.Random, *, pronouns: bool = True) -> None:
        self.rng = rng
        self.world = World()
        self.sentences: list[str] = []
        self.asked: Node | None = None
        self.pronouns = pronouns
        self.happened: set[str] = set()
        self._names: tuple[str, ...] = ()
        self._day = int(rng.random() * len(DAYS))

    @property
    def text(self) -> str:
        return " ".join(self.sentences)

    def choose(self, options: Sequence[T]) -> T:
        if not options:
            raise RetryError
        return options[int(self.rng.random() * len(options))]

    def names(self, count: int) -> list[str]:
        return self.rng.sample(NAMES, count)

    def days(self) -> Slots:
        """Two days, later than those before."""
        self._day += 2
        return {"D": DAYS[(self._day - 1) % 7], "E": DAYS[self._day % 7]}

    def item(self) -> str:
        return self.choose(ITEMS)

    def thing(self) -> str:
        return self.choose(THINGS)

    def number(self, low: int, high: int) -> int:
        """A number between the two; smaller ones come up more often."""
        if high < low:
            raise RetryError
        width = high - low + 1
        return low + int(min(self.rng.random(), self.rng.random() + 0.3, 0.999999) * width)

    def value(self, key: str) -> int:
        value = self.world.get(key).value
        if type(value) is not int:
            raise RetryError
        return value

    def steps(self, key: str) -> int:
        return len(needed(self.world.now[key])) if key in self.world.now else 0

    def add_sentence(self, name: str, **slots: Any) -> None:
        """Write one sentence of the kind, and do what it says."""
        kind = KINDS[name]
        if "n" in slots:
            slots.setdefault("d", slots["n"])
        self.sentences.append(self._write(kind, slots))
        before = len(self.world.nodes)
        try:
            node = execute(self.world, kind, slots)
        except UnsolvableError as error:
            raise RetryError from error
        if kind.asks:
            self.asked = node
        what = name.partition(".")[2]
        if what in CHANGING:
            self.happened.add(what)
        if not all(learnable(node) for node in self.world.nodes[before:]):
            raise RetryError

    def _write(self, kind: Kind, slots: Slots) -> str:
        template = self._phrasing(kind)
        subject = slots.get("A")
        names = tuple(slots[slot] for slot in "ABC" if slot in slots and slot in template.slots)
        shown = slots
        if self.pronouns and self._names == (subject,) and names == (subject,):
            if self.rng.random() < (0.3 if kind.asks else 0.6):
                shown = {**slots, "A": GENDER[str(subject)]}
        if names:
            self._names = names
        text = template.render(shown)
        simple = kind.name.endswith((".add", ".sub", ".give", ".eat")) and not text.startswith(("At ", "By ", "On "))
        if simple and len(self.sentences) > 1 and self.rng.random() < 0.1:
            text = text if text.split(" ", 1)[0] in GENDER else text[0].lower() + text[1:]
            text = self.choose(OPENINGS) + text
        return text

    def _phrasing(self, kind: Kind) -> Template:
        """A phrasing that fits what happened: nothing is "left" where nothing went, nor "now" where nothing changed."""
        if not kind.asks:
            return self.choose(kind.templates)
        fitting = [template for template in kind.templates if self._fits(template.text)]
        return self.choose(fitting or kind.templates)

    def _fits(self, text: str) -> bool:
        if " left" in text and " to " not in text:
            return bool(self.happened & LOSING)
        return bool(self.happened) or not text.endswith((" now?", " in the end?"))


def learnable(node: Node) -> bool:
    """Whether an operation lies within the tables a small model can know."""
    if node.value is None or node.left is None or node.right is None:
        return node.value is None or within(node.value)
    left, right, value = node.left.value, node.right.value, node.value
    assert left is not None and right is not None
    if not within(value):
        return False
    if node.op == "*":
        return table(left, right)
    if node.op == "/":
        if type(value) is int:
            return table(value, right)
        return 0 < left < right <= 20 and node.before == "The fraction is"
    return True


def within(value: Number) -> bool:
    return 0 <= value <= LIMIT


def table(left: Number, right: Number) -> bool:
    """Up to 10 times 10, or one of them 2 or 3."""
    small, large = sorted((left, right))
    return left * right <= LIMIT and (large <= 10 or small <= 3)
