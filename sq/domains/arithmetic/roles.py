"""What a theme is, and what its sentences do in a story by their role: state a quantity, change it, compare, ask."""

from __future__ import annotations

from dataclasses import dataclass

from sq.domains.arithmetic import quantity as q
from sq.domains.arithmetic.grammar import Role
from sq.domains.arithmetic.quantity import Quantity

LENGTH = Quantity("length {S}", "The length is", "meters", slot="S", other="S", whole=False)
WIDTH = Quantity("width {S}", "The width is", "meters", slot="S", other="S", whole=False)

ROLES = {
    role.name: role
    for role in (
        Role("state", q.states, states=True),
        Role("groups", q.states_groups, cost=1, states=True),
        Role("add", lambda g: q.changes(g, "+"), cost=1, changes=True),
        Role("sub", lambda g: q.changes(g, "-"), cost=1, changes=True, takes=True),
        Role("up", lambda g: q.changes_groups(g, "+"), cost=2, changes=True),
        Role("down", lambda g: q.changes_groups(g, "-"), cost=2, changes=True, takes=True),
        Role("part", q.takes_part, cost=2, changes=True, takes=True),
        Role("mul", lambda g: q.multiplies(g, "*"), cost=1, changes=True),
        Role("div", lambda g: q.multiplies(g, "/"), cost=1, changes=True),
        Role("give", q.gives, cost=1, changes=True, takes=True, pair=True),
        Role("more", lambda g: q.compares(g, "+"), cost=1, compares=True, pair=True),
        Role("fewer", lambda g: q.compares(g, "-"), cost=1, compares=True, takes=True, pair=True),
        Role("times", lambda g: q.compares(g, "*", "M"), cost=1, compares=True, pair=True),
        Role("fraction", lambda g: q.compares(g, "/", "F"), cost=1, compares=True, pair=True),
        Role("ask", q.asks, asks=True),
        Role("total", lambda g: q.asks_both(g, "+", "The total is"), cost=1, asks=True, pair=True),
        Role("difference", lambda g: q.asks_both(g, "-", "The difference is"), cost=1, asks=True, pair=True),
        Role("need", q.asks_needed, cost=1, asks=True),
        Role("later", lambda g: q.asks_changed(g, "+"), cost=1, asks=True),
        Role("earlier", lambda g: q.asks_changed(g, "-"), cost=1, asks=True),
        Role("share", q.asks_share, cost=1, asks=True),
        Role("fill", q.asks_groups, cost=1, asks=True),
        Role("cost", q.asks_cost, cost=1, asks=True),
        Role("rest", q.asks_rest, cost=2, asks=True),
        Role("cost of two", q.asks_cost_of_two, cost=3, asks=True, pair=True),
        Role("sides", lambda g: q.both(q.states(g), q.states(WIDTH), "m"), states=True),
        Role("wider", lambda g: q.changes(WIDTH, "+"), cost=1, changes=True),
        Role("narrower", lambda g: q.changes(WIDTH, "-"), cost=1, changes=True, takes=True),
        Role("area", lambda g: q.asks_area(g, WIDTH), cost=1, asks=True),
        Role("perimeter", lambda g: q.asks_perimeter(g, WIDTH), cost=2, asks=True),
    )
}


@dataclass(frozen=True)
class Theme:
    """A problem family: its quantity, and the sentences it knows by role. A story starts with at most `high`."""

    name: str
    quantity: Quantity
    phrases: dict[str, tuple[str, ...]]
    high: int = 30
    most_steps: int = 5
    held_out: bool = False
