"""A quantity (Tom's apples, the water in a tank) and what sentences may do to it.

Most stories state a quantity, change it, compare it with another and ask for it. Those effects are written once here;
the themes give each its own words.
"""

from __future__ import annotations

from dataclasses import dataclass

from sq.domains.arithmetic.grammar import Effect, Slots
from sq.domains.arithmetic.world import Node, Number, World, check_amount


@dataclass(frozen=True)
class Quantity:
    """`key`, `before` and `after` are formats over a sentence's slots; `other` is the slot of who is compared with.

    `total` marks a quantity that starts at nothing (what was earned so far) and needs no statement.
    """

    key: str
    before: str
    after: str
    whole: bool = True
    floor: int | None = 0
    total: bool = False
    slot: str = "A"

    def of(self, s: Slots) -> str:
        return self.key.format_map(s)

    def than(self, s: Slots, other: str) -> str:
        """The key of the same quantity of someone else, who stands in slot `other`."""
        return self.key.format_map({**s, self.slot: s[other]})

    def current(self, w: World, key: str) -> Node:
        return w.total(key) if self.total else w.get(key)

    def base(self, w: World, key: str) -> Node:
        """What is compared with: of a total not begun yet, what it will have come to."""
        return w.final(key) if self.total and key not in w.now else w.get(key)

    def leaf(self, w: World, value: Number | None) -> Node:
        if value is not None:
            check_amount(value, self.whole, self.floor)
        return w.leaf(value)

    def calc(self, w: World, s: Slots, op: str, left: Node, right: Node, before: str | None = None) -> Node:
        words = self.before if before is None else before
        return w.calc(
            op, left, right, words.format_map(s), self.after.format_map(s), whole=self.whole, floor=self.floor
        )

    def change(self, w: World, s: Slots, op: str, by: Node) -> None:
        """Add to or take from the quantity. A total that stood at nothing simply becomes the amount."""
        key = self.of(s)
        old = self.current(w, key)
        if self.total and op == "+" and old.stated and old.value == 0:
            w.put(key, by)
        else:
            w.put(key, self.calc(w, s, op, old, by))

    def times(self, w: World, s: Slots, each: str = "n", count: str = "k") -> Node:
        """The product of two slots, told as "That is 3 * 4 = 12 apples"."""
        left, right = self.leaf(w, s[each]), counted(w, s[count])
        return self.calc(w, s, "*", left, right, "That is")


def counted(w: World, value: Number | None) -> Node:
    """A number of groups, days or people: whole and not less than none."""
    if value is not None:
        check_amount(value, True, 0)
    return w.leaf(value)


def share_of(g: Quantity, w: World, s: Slots, of: Node, part: tuple[int, int]) -> Node:
    """A half, a third, three quarters of a quantity."""
    top, bottom = part
    one = g.calc(w, s, "/", of, w.leaf(bottom), "That is")
    return one if top == 1 else g.calc(w, s, "*", one, w.leaf(top), "That is")


def states(g: Quantity, slot: str = "n") -> Effect:
    """Tom has 12 apples."""

    def effect(w: World, s: Slots) -> None:
        node = g.leaf(w, s[slot])
        w.state(g.of(s), node, whole=g.whole, floor=g.floor)

    return effect


def states_groups(g: Quantity, each: str = "n") -> Effect:
    """Tom has 3 bags with 4 apples in each."""

    def effect(w: World, s: Slots) -> None:
        w.state(g.of(s), g.times(w, s, each))

    return effect


def changes(op: str, *quantities: Quantity, slot: str = "n") -> Effect:
    """Tom buys 3 more apples; Tom loses 3 apples."""

    def effect(w: World, s: Slots) -> None:
        node = quantities[0].leaf(w, s[slot])
        for g in quantities:
            g.change(w, s, op, node)

    return effect


def changes_groups(op: str, *quantities: Quantity, each: str = "n", count: str = "k") -> Effect:
    """Tom buys 3 bags of 4 apples each; Tom saves $5 each week for 4 weeks."""

    def effect(w: World, s: Slots) -> None:
        node = quantities[0].times(w, s, each, count)
        for g in quantities:
            g.change(w, s, op, node)

    return effect


def takes_part(g: Quantity) -> Effect:
    """Tom gives away half of the apples."""

    def effect(w: World, s: Slots) -> None:
        g.change(w, s, "-", share_of(g, w, s, g.current(w, g.of(s)), s["F"]))

    return effect


def gives(g: Quantity, slot: str = "n") -> Effect:
    """Tom gives 3 apples to Ben."""

    def effect(w: World, s: Slots) -> None:
        node = g.leaf(w, s[slot])
        g.change(w, s, "-", node)
        g.change(w, {**s, g.slot: s["B"]}, "+", node)

    return effect


def compares(g: Quantity, op: str, slot: str = "n", other: str = "B") -> Effect:
    """Tom has 3 more apples than Ben."""

    def effect(w: World, s: Slots) -> None:
        base, by = g.base(w, g.than(s, other)), g.leaf(w, s[slot])
        w.state(g.of(s), g.calc(w, s, op, base, by))

    return effect


def multiplies(g: Quantity, other: str = "B") -> Effect:
    """Tom has twice as many apples as Ben."""

    def effect(w: World, s: Slots) -> None:
        base, by = g.base(w, g.than(s, other)), w.leaf(s["M"])
        w.state(g.of(s), g.calc(w, s, "*", base, by))

    return effect


def divides(g: Quantity, other: str = "B") -> Effect:
    """Tom has half as many apples as Ben."""

    def effect(w: World, s: Slots) -> None:
        top, bottom = s["F"]
        node = g.base(w, g.than(s, other))
        node = g.calc(w, s, "/", node, w.leaf(bottom), None if top == 1 else "That is")
        if top != 1:
            node = g.calc(w, s, "*", node, w.leaf(top))
        w.state(g.of(s), node)

    return effect


def asks(g: Quantity) -> Effect:
    """How many apples does Tom have?"""
    return lambda w, s: w.asked(g.of(s))


def asks_total(g: Quantity, *others: str) -> Effect:
    """How many apples do Tom and Ben have together?"""

    def effect(w: World, s: Slots) -> Node:
        node = w.asked(g.of(s))
        for other in others:
            node = g.calc(w, s, "+", node, w.asked(g.than(s, other)), "The total is")
        return node

    return effect


def asks_average(g: Quantity, *others: str) -> Effect:
    """What is the average of what Tom and Ben have?"""

    def effect(w: World, s: Slots) -> Node:
        node = asks_total(g, *others)(w, s)
        assert node is not None
        return w.calc("/", node, w.leaf(len(others) + 1), "The average is", g.after.format_map(s))

    return effect


def asks_difference(g: Quantity, more: bool = True, other: str = "B") -> Effect:
    """How many more apples does Tom have than Ben?"""

    def effect(w: World, s: Slots) -> Node:
        mine, theirs = w.asked(g.of(s)), w.asked(g.than(s, other))
        pair = (mine, theirs) if more else (theirs, mine)
        return g.calc(w, s, "-", *pair, "The difference is")

    return effect


def asks_needed(g: Quantity, before: str = "That leaves", after: str | None = None, slot: str = "n") -> Effect:
    """How many more points does Tom need to reach 20?"""

    def effect(w: World, s: Slots) -> Node:
        goal = g.leaf(w, s[slot])
        words = (before.format_map(s), (after or g.after).format_map(s))
        return w.calc("-", goal, w.asked(g.of(s)), *words, whole=g.whole, floor=0)

    return effect


def splits(g: Quantity, to: str, before: str, after: str | None = None, count: str = "k") -> Effect:
    """Tom shares the apples equally among 4 friends: what each gets, under the key `to`."""

    def effect(w: World, s: Slots) -> None:
        by = counted(w, s[count])
        words = (before, (after or g.after).format_map(s))
        node = w.calc("/", g.current(w, g.of(s)), by, *words, whole=g.whole)
        w.state(to.format_map(s), node)

    return effect


def packs(g: Quantity, to: str, before: str, after: str, each: str = "n") -> Effect:
    """Tom packs the apples into bags of 4: how many bags, under the key `to`."""

    def effect(w: World, s: Slots) -> None:
        by = g.leaf(w, s[each])
        node = w.calc("/", g.current(w, g.of(s)), by, before.format_map(s), after.format_map(s), whole=True)
        w.state(to.format_map(s), node)

    return effect


def asks_key(key: str) -> Effect:
    """Ask for a quantity by its key alone."""
    return lambda w, s: w.asked(key.format_map(s))
