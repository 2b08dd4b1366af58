"""Sentences about rectangles and recipes."""

from __future__ import annotations

from collections.abc import Callable

from sq.domains.arithmetic import quantity as g
from sq.domains.arithmetic.grammar import Effect, Kind, Slots, kind
from sq.domains.arithmetic.world import Node, Number, World, check_amount

CUPS = g.Quantity("cups {Z}", "The recipe needs", "cups of {Z}", whole=False, slot="Z")
STOCK = g.Quantity("stock {A} {Z}", "{A} has", "cups of {Z}", whole=False)


def _shape(w: World, s: Slots) -> None:
    w.lists["shape"] = [s["S"]]
    w.state("length", _side(w, s["n"]))
    w.state("width", _side(w, s["m"]))


def _side(w: World, value: Number | None) -> Node:
    if value is not None:
        check_amount(value, False, 0)
    return w.leaf(value)


def _square(w: World, s: Slots) -> None:
    w.lists["shape"] = [s["S"]]
    side = _side(w, s["n"])
    w.state("length", side)
    w.state("width", side)


def _one_side(key: str) -> Effect:
    def effect(w: World, s: Slots) -> None:
        if "S" in s:
            w.lists["shape"] = [s["S"]]
        w.state(key, _side(w, s["n"]))

    return effect


def _of_shape(ask: Callable[[World], Node]) -> Effect:
    def effect(w: World, s: Slots) -> Node:
        w.recall("shape", s["S"])
        return ask(w)

    return effect


def _other_side(key: str, base: str, op: str) -> Effect:
    def effect(w: World, s: Slots) -> None:
        by = w.leaf(s["M"] if op == "*" else s["n"])
        w.state(key, w.calc(op, w.get(base), by, f"The {key} is", "meters"))

    return effect


def _perimeter(w: World) -> Node:
    half = w.calc("+", w.asked("length"), w.asked("width"), "Two sides make", "meters")
    return w.calc("*", half, w.leaf(2), "The perimeter is", "meters")


def _area(w: World) -> Node:
    return w.calc("*", w.asked("length"), w.asked("width"), "The area is", "square meters")


def _laps(w: World, s: Slots) -> Node:
    return w.calc("*", _perimeter(w), w.leaf(s["M"]), f"{s['A']} goes", "meters")


def _fence_cost(w: World, s: Slots) -> Node:
    w.recall("shape", s["S"])
    return w.calc("*", _perimeter(w), w.asked("fence price"), "The fence costs", "dollars")


def _cover_cost(w: World, s: Slots) -> Node:
    w.recall("shape", s["S"])
    return w.calc("*", _area(w), w.asked("cover price"), "The grass costs", "dollars")


def _recipe_two(w: World, s: Slots) -> None:
    w.state(CUPS.of(s), CUPS.leaf(w, s["n"]))
    w.state(CUPS.than(s, "W"), CUPS.leaf(w, s["m"]))


def _batches(w: World, s: Slots) -> None:
    w.state(f"batches {s['A']}", g.counted(w, s["k"]))


def _need(w: World, s: Slots) -> Node:
    cups, batches = w.asked(CUPS.of(s)), w.asked(f"batches {s['A']}")
    return w.calc("*", cups, batches, f"{s['A']} needs", f"cups of {s['Z']}")


def _need_both(w: World, s: Slots) -> Node:
    left, right = _need(w, s), _need(w, {**s, "Z": s["W"]})
    return w.calc("+", left, right, f"{s['A']} needs", "cups")


def _need_more(w: World, s: Slots) -> Node:
    stock = w.asked(STOCK.of(s))
    return w.calc("-", _need(w, s), stock, "That leaves", f"cups of {s['Z']}", floor=0)


def _stock_left(w: World, s: Slots) -> Node:
    stock = w.asked(STOCK.of(s))
    return w.calc("-", stock, _need(w, s), f"{s['A']} has", f"cups of {s['Z']}", floor=0)


def _can_make(w: World, s: Slots) -> Node:
    stock, cups = w.asked(STOCK.of(s)), w.asked(CUPS.of(s))
    return w.calc("/", stock, cups, f"{s['A']} can bake", "batches", whole=True)


_SHAPE = (
    kind("shape.both", _shape, "A {S} is {n} meters long and {m} meters wide."),
    kind("shape.square", _square, "A square {S} has sides of {n} meters."),
    kind("shape.long", _one_side("length"), "A {S} is {n} meters long."),
    kind("shape.wide", _one_side("width"), "A {S} is {n} meters wide."),
    kind("shape.also", _one_side("width"), "It is {n} meters wide."),
    kind("shape.longer", _other_side("length", "width", "+"), "Its length is {n} meters more than its width."),
    kind("shape.narrower", _other_side("width", "length", "-"), "Its width is {n} meters less than its length."),
    kind("shape.twice", _other_side("length", "width", "*"), "Its length is {M} its width."),
    kind(
        "shape.round",
        _of_shape(_perimeter),
        "What is the perimeter of the {S}?",
        "How many meters of fence go around the {S}?",
    ),
    kind("shape.area", _of_shape(_area), "What is the area of the {S}[| in square meters]?"),
    kind("shape.laps", _laps, "If {A} goes around it {M}, how many meters is that?"),
    kind("shape.fence", lambda w, s: w.state("fence price", w.leaf(s["d"])), "A fence costs {d} for each meter."),
    kind("shape.fence_ask", _fence_cost, "How much does a fence around the {S} cost?"),
    kind("shape.grass", lambda w, s: w.state("cover price", w.leaf(s["d"])), "Grass costs {d} for each square meter."),
    kind("shape.grass_ask", _cover_cost, "How much does it cost to cover the {S} with grass?"),
)
_RECIPE = (
    kind(
        "recipe.one",
        g.states(CUPS),
        "One batch needs {n} cups of {Z}.",
        "A recipe needs {n} cups of {Z} for each batch.",
    ),
    kind("recipe.two", _recipe_two, "One batch needs {n} cups of {Z} and {m} cups of {W}."),
    kind("recipe.more", g.compares(CUPS, "+", other="W"), "It needs {n} more cups of {Z} than of {W}."),
    kind("recipe.times", g.multiplies(CUPS, other="W"), "It needs {M} as much {Z} as {W}."),
    kind("recipe.make", _batches, "{A} bakes {k} batches.", "{A} wants to bake {k} batches."),
    kind("recipe.stock", g.states(STOCK), "{A} has {n} cups of {Z}."),
    kind("recipe.buy", g.changes("+", STOCK), "{A} buys {n} more cups of {Z}."),
    kind("recipe.spill", g.changes("-", STOCK), "{A} spills {n} cups of {Z}."),
    kind("recipe.need", _need, "How many cups of {Z} does {A} need[| in all]?"),
    kind("recipe.both", _need_both, "How many cups of {Z} and {W} does {A} need in all?"),
    kind("recipe.short", _need_more, "How many more cups of {Z} does {A} need?"),
    kind("recipe.left", _stock_left, "How many cups of {Z} does {A} have left?"),
    kind("recipe.can", _can_make, "How many batches can {A} bake with the {Z}?"),
)
KINDS: tuple[Kind, ...] = (*_SHAPE, *_RECIPE)
