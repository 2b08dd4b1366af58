"""Sentences about what is measured: temperature, ropes, tanks, plants, weights; and number puzzles."""

from __future__ import annotations

from sq.domains.arithmetic import quantity as g
from sq.domains.arithmetic.grammar import Kind, Slots, kind
from sq.domains.arithmetic.world import World

HEAT = g.Quantity("heat", "It is", "degrees", whole=False, floor=None)
ROPE = g.Quantity("rope", "The rope is", "meters", whole=False)
TANK = g.Quantity("tank", "The tank has", "liters", whole=False)
TALL = g.Quantity("tall", "The plant is", "inches", whole=False)
VALUE = g.Quantity("value {A}", "{A} gets", "", whole=False, floor=None)
WEIGHT = g.Quantity("weight {V}", "The {V} weighs", "pounds", whole=False, slot="V")


def _rise_and_fall(w: World, s: Slots) -> None:
    g.changes("+", HEAT)(w, s)
    g.changes("-", HEAT, slot="m")(w, s)


KINDS: tuple[Kind, ...] = (
    kind("heat.set", g.states(HEAT), "The temperature is {n} degrees[| in the morning| at dawn]."),
    kind("heat.add", g.changes("+", HEAT), "It rises by {n} degrees.", "By [noon|evening], it rises by {n} degrees."),
    kind(
        "heat.sub",
        g.changes("-", HEAT),
        "It [falls|drops] by {n} degrees.",
        "By [night|evening], it [falls|drops] by {n} degrees.",
    ),
    kind("heat.both", _rise_and_fall, "It rises by {n} degrees and then [falls|drops] by {m} degrees."),
    kind("heat.up", g.changes_groups("+", HEAT), "It rises by {n} degrees each hour for {k} hours."),
    kind("heat.down", g.changes_groups("-", HEAT), "It [falls|drops] by {n} degrees each hour for {k} hours."),
    kind("heat.ask", g.asks(HEAT), "What is the temperature [now|in the end]?"),
    kind("rope.set", g.states(ROPE), "A rope is {n} meters long.", "{A} has a rope that is {n} meters long."),
    kind("rope.add", g.changes("+", ROPE), "{A} ties on {n} more meters."),
    kind("rope.sub", g.changes("-", ROPE), "{A} cuts off {n} meters."),
    kind("rope.down", g.changes_groups("-", ROPE), "{A} cuts off {k} pieces of {n} meters each."),
    kind("rope.part", g.takes_part(ROPE), "{A} cuts off {F} of the rope."),
    kind("rope.ask", g.asks(ROPE), "How long is the rope [now|in the end]?", "How many meters of rope are left?"),
    kind("rope.cut", g.splits(ROPE, "piece", "Each piece is"), "{A} cuts the rope into {k} equal pieces."),
    kind("rope.piece", g.asks_key("piece"), "How long is each piece?", "How many meters long is each piece?"),
    kind("tank.set", g.states(TANK), "A tank has {n} liters of water."),
    kind("tank.add", g.changes("+", TANK), "{A} pours in {n} [|more] liters."),
    kind("tank.sub", g.changes("-", TANK), "{A} takes out {n} liters.", "{n} liters leak out."),
    kind(
        "tank.up",
        g.changes_groups("+", TANK),
        "A pipe adds {n} liters [each minute for {k} minutes|an hour for {k} hours].",
    ),
    kind(
        "tank.down",
        g.changes_groups("-", TANK),
        "{n} liters leak out [each minute for {k} minutes|each hour for {k} hours].",
    ),
    kind("tank.part", g.takes_part(TANK), "{F} of the water leaks out."),
    kind(
        "tank.ask",
        g.asks(TANK),
        "How many liters are in the tank [now|in the end]?",
        "How much water is in the tank now?",
    ),
    kind("tank.need", g.asks_needed(TANK), "If the tank can hold {n} liters, how many more liters fit?"),
    kind("tall.set", g.states(TALL), "A plant is {n} inches tall."),
    kind("tall.add", g.changes("+", TALL), "It grows {n} [|more] inches."),
    kind("tall.sub", g.changes("-", TALL), "{A} cuts {n} inches from the top."),
    kind("tall.up", g.changes_groups("+", TALL), "It grows {n} inches each [week for {k} weeks|day for {k} days]."),
    kind("tall.ask", g.asks(TALL), "How tall is the plant [now|in the end]?"),
    kind("tall.need", g.asks_needed(TALL, "It must grow"), "How many more inches must it grow to be {n} inches tall?"),
    kind("value.set", g.states(VALUE), "{A} thinks of the number {n}.", "{A} starts with the number {n}."),
    kind("value.add", g.changes("+", VALUE), "{A} adds {n}."),
    kind("value.sub", g.changes("-", VALUE), "{A} takes away {n}."),
    kind("value.mul", g.changes("*", VALUE), "{A} multiplies by {n}."),
    kind("value.div", g.changes("/", VALUE), "{A} divides by {n}."),
    kind("value.ask", g.asks(VALUE), "What number does {A} [get|have][| now| in the end]?"),
    kind("weight.set", g.states(WEIGHT), "The {V} weighs {n} pounds."),
    kind("weight.more", g.compares(WEIGHT, "+", other="U"), "The {V} weighs {n} pounds more than the {U}."),
    kind("weight.less", g.compares(WEIGHT, "-", other="U"), "The {V} weighs {n} pounds less than the {U}."),
    kind("weight.times", g.multiplies(WEIGHT, other="U"), "The {V} weighs {M} as much as the {U}."),
    kind("weight.fraction", g.divides(WEIGHT, other="U"), "The {V} weighs {F} as much as the {U}."),
    kind("weight.gain", g.changes("+", WEIGHT), "The {V} gains {n} pounds."),
    kind("weight.lose", g.changes("-", WEIGHT), "The {V} loses {n} pounds."),
    kind(
        "weight.ask",
        g.asks(WEIGHT),
        "How much does the {V} weigh[| now]?",
        "How many pounds does the {V} weigh[| now]?",
    ),
    kind("weight.total", g.asks_total(WEIGHT, "U"), "How much do the {V} and the {U} weigh [together|in all]?"),
    kind(
        "weight.total3",
        g.asks_total(WEIGHT, "U", "T"),
        "How much do the {V}, the {U} and the {T} weigh [together|in all]?",
    ),
    kind("weight.average", g.asks_average(WEIGHT, "U"), "What is the average weight of the {V} and the {U}?"),
    kind("weight.diff", g.asks_difference(WEIGHT, other="U"), "How much more does the {V} weigh than the {U}?"),
)
