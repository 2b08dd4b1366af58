"""A quantity (Tom's apples, the water in a tank) and what sentences may do to it.

Stories state a quantity, change it, compare it with another and ask for it. Those effects are written once here; the
themes give each its own words.
"""

from __future__ import annotations

from dataclasses import dataclass

from sq.domains.arithmetic.grammar import Effect, Slots
from sq.domains.arithmetic.world import Node, Number, World, check_amount


@dataclass(frozen=True)
class Quantity:
    """`key`, `before` and `after` are formats over a sentence's slots.

    `slot` holds whose quantity it is, and `other` who is compared with; `whole` says that it comes in integers, and
    `groups` what it can be divided into.
    """

    key: str
    before: str
    after: str
    slot: str = "A"
    other: str = "B"
    whole: bool = True
    groups: str = ""

    def of(self, s: Slots) -> str:
        return self.key.format_map(s)

    def than(self, s: Slots) -> str:
        """The key of the same quantity of the other one."""
        return self.key.format_map({**s, self.slot: s[self.other]})

    def leaf(self, w: World, value: Number | None) -> Node:
        if value is not None:
            check_amount(value, self.whole)
        return w.leaf(value)

    def calc(self, w: World, s: Slots, op: str, left: Node, right: Node, before: str | None = None) -> Node:
        if before is None:
            before, after = self.before, self.after
        else:  # words of no one quantity, and then the unit alone
            after = self.after.split(" ", 1)[0]
        return w.calc(op, left, right, before.format_map(s), after.format_map(s), whole=self.whole)

    def change(self, w: World, s: Slots, op: str, by: Node) -> None:
        key = self.of(s)
        w.put(key, self.calc(w, s, op, w.get(key), by))

    def times(self, w: World, s: Slots) -> Node:
        """The product of two slots, written as "That is 3 * 4 = 12 apples"."""
        return self.calc(w, s, "*", counted(w, s["k"]), self.leaf(w, s["n"]), "That is")


def counted(w: World, value: Number | None) -> Node:
    """A number of groups, days or people: whole and not less than none."""
    if value is not None:
        check_amount(value, True)
    return w.leaf(value)


def states(q: Quantity) -> Effect:
    """Tom has 12 apples."""
    return lambda w, s: w.state(q.of(s), q.leaf(w, s["n"]))


def states_groups(q: Quantity) -> Effect:
    """Tom has 3 bags of 4 apples."""
    return lambda w, s: w.state(q.of(s), q.times(w, s))


def changes(q: Quantity, op: str) -> Effect:
    """Tom buys 3 more apples; Tom loses 3 apples."""
    return lambda w, s: q.change(w, s, op, q.leaf(w, s["n"]))


def changes_groups(q: Quantity, op: str) -> Effect:
    """Tom buys 3 bags of 4 apples; Tom earns 5 dollars a day for 4 days."""
    return lambda w, s: q.change(w, s, op, q.times(w, s))


def multiplies(q: Quantity, op: str) -> Effect:
    """Tom multiplies by 3; Tom divides by 3."""
    return lambda w, s: q.change(w, s, op, w.leaf(s["k"]))


def takes_part(q: Quantity) -> Effect:
    """Tom gives away half of the apples."""

    def effect(w: World, s: Slots) -> None:
        part = q.calc(w, s, "/", w.get(q.of(s)), w.leaf(s["F"][1]), "That is")
        q.change(w, s, "-", part)

    return effect


def gives(q: Quantity) -> Effect:
    """Tom gives 3 apples to Ben."""

    def effect(w: World, s: Slots) -> None:
        node = q.leaf(w, s["n"])
        q.change(w, s, "-", node)
        q.change(w, {**s, q.slot: s[q.other]}, "+", node)

    return effect


def compares(q: Quantity, op: str, by: str = "n") -> Effect:
    """Tom has 3 more apples than Ben, twice as many as he, half as many."""

    def effect(w: World, s: Slots) -> None:
        than = w.get(q.than(s))
        value = s["F"][1] if by == "F" else s[by]
        w.state(q.of(s), q.calc(w, s, op, than, q.leaf(w, value) if by == "n" else w.leaf(value)))

    return effect


def asks(q: Quantity) -> Effect:
    """How many apples does Tom have?"""
    return lambda w, s: w.asked(q.of(s))


def asks_both(q: Quantity, op: str, before: str) -> Effect:
    """How many apples do Tom and Ben have together? How many more does Tom have than Ben?"""
    return lambda w, s: q.calc(w, s, op, w.asked(q.of(s)), w.asked(q.than(s)), before)


def asks_needed(q: Quantity) -> Effect:
    """How many more points does Tom need to reach 20?"""
    return lambda w, s: q.calc(w, s, "-", q.leaf(w, s["n"]), w.asked(q.of(s)), "That leaves")


def asks_changed(q: Quantity, op: str) -> Effect:
    """How old will Tom be in 5 years?"""
    return lambda w, s: q.calc(w, s, op, w.asked(q.of(s)), q.leaf(w, s["n"]))


def asks_share(q: Quantity) -> Effect:
    """If Tom shares the apples equally among 4 kids, how many does each kid get?"""
    return lambda w, s: q.calc(w, s, "/", w.asked(q.of(s)), counted(w, s["k"]), "Each gets")


def asks_groups(q: Quantity) -> Effect:
    """If Tom puts 4 apples into each bag, how many bags does he fill?"""

    def effect(w: World, s: Slots) -> Node:
        after = q.groups.format_map(s)
        return w.calc("/", w.asked(q.of(s)), q.leaf(w, s["n"]), "That makes", after, whole=True)

    return effect


def asks_cost(q: Quantity) -> Effect:
    """How much do 4 pens cost?"""
    return lambda w, s: cost(q, w, s, s["k"])


def asks_cost_of_two(q: Quantity) -> Effect:
    """How much do 4 pens and 3 hats cost?"""

    def effect(w: World, s: Slots) -> Node:
        one, two = cost(q, w, s, s["k"]), cost(q, w, {**s, q.slot: s[q.other]}, s["m"])
        return q.calc(w, s, "+", one, two, "The total is")

    return effect


def asks_rest(q: Quantity) -> Effect:
    """How many dollars of 20 are left after paying for 4 pens?"""

    def effect(w: World, s: Slots) -> Node:
        price = cost(q, w, s, s["k"])
        return q.calc(w, s, "-", q.leaf(w, s["n"]), price, "That leaves")

    return effect


def cost(q: Quantity, w: World, s: Slots, count: Number | None) -> Node:
    return q.calc(w, s, "*", counted(w, count), w.asked(q.of(s)), "That is")


def asks_area(length: Quantity, width: Quantity) -> Effect:
    """What is the area of the garden?"""
    return lambda w, s: w.calc("*", w.asked(length.of(s)), w.asked(width.of(s)), "The area is", "square meters")


def asks_perimeter(length: Quantity, width: Quantity) -> Effect:
    """What is the distance around the garden?"""

    def effect(w: World, s: Slots) -> Node:
        half = length.calc(w, s, "+", w.asked(length.of(s)), w.asked(width.of(s)), "Two sides are")
        return length.calc(w, s, "*", w.leaf(2), half, "All sides are")

    return effect


def both(one: Effect, two: Effect, second: str) -> Effect:
    """Two sentences in one; the number of the second stands in slot `second`."""

    def effect(w: World, s: Slots) -> None:
        one(w, s)
        two(w, {**s, "n": s[second]})

    return effect
