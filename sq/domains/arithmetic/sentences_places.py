"""Sentences about what is somewhere: people in a place or a bus, plants in rows, colours in a bag, slices of a pie."""

from __future__ import annotations

from sq.domains.arithmetic import quantity as g
from sq.domains.arithmetic.grammar import Effect, Kind, Slots, kind
from sq.domains.arithmetic.world import Node, Reason, UnsolvableError, World

CROWD = g.Quantity("crowd {P}", "There are", "{P}")
PLANT = g.Quantity("plant {I}", "There are", "{I}", total=True)
BUS = g.Quantity("bus", "The bus has", "people")
HUE = g.Quantity("hue {I} {X}", "There are", "{X} {I}", slot="X")
SLICES = g.Quantity("slices left", "There are", "slices")
EATEN = g.Quantity("eaten {A}", "{A} eats", "slices", total=True)


def _placed(effect: Effect) -> Effect:
    """Remember where the people are."""

    def placed(w: World, s: Slots) -> None:
        effect(w, s)
        w.lists["place"] = [s["L"]]

    return placed


def _ask_place(w: World, s: Slots) -> Node:
    if "L" in s:
        w.recall("place", s["L"])
    return w.asked(CROWD.of(s))


def _off_and_on(quantity: g.Quantity) -> Effect:
    def effect(w: World, s: Slots) -> None:
        g.changes("-", quantity)(w, s)
        g.changes("+", quantity, slot="m")(w, s)

    return effect


def _in_and_out(w: World, s: Slots) -> None:
    g.changes("+", CROWD)(w, s)
    g.changes("-", CROWD, slot="m")(w, s)


def _girls(w: World, s: Slots) -> None:
    w.state(f"girls {s['P']}", g.share_of(CROWD, w, s, CROWD.current(w, CROWD.of(s)), s["F"]))


def _boys(w: World, s: Slots) -> Node:
    girls = w.asked(f"girls {s['P']}")
    return w.calc("-", w.asked(CROWD.of(s)), girls, "There are", "boys", whole=True)


def _hue(w: World, s: Slots, slot: str, node: Node) -> None:
    if "G" in s:
        w.lists["container"] = [s["G"]]
    w.state(HUE.than(s, slot), node)
    names = w.lists.setdefault(f"hues {s['I']}", [])
    if s[slot] not in names:
        names.append(s[slot])


def _one_hue(w: World, s: Slots) -> None:
    _hue(w, s, "X", HUE.leaf(w, s["n"]))


def _two_hues(w: World, s: Slots) -> None:
    _one_hue(w, s)
    _hue(w, s, "Q", HUE.leaf(w, s["m"]))


def _hue_than(op: str) -> Effect:
    def effect(w: World, s: Slots) -> None:
        base = w.get(HUE.than(s, "Q"))
        _hue(w, s, "X", HUE.calc(w, s, op, base, w.leaf(s["M"] if op == "*" else s["n"])))

    return effect


def _all_hues(w: World, s: Slots) -> Node:
    if "G" in s:
        w.recall("container", s["G"])
    names = w.lists.get(f"hues {s['I']}")
    if not names:
        raise UnsolvableError(Reason.UNKNOWN)
    node = w.asked(HUE.of({**s, "X": names[0]}))
    for name in names[1:]:
        node = w.calc("+", node, w.asked(HUE.of({**s, "X": name})), "The total is", s["I"], whole=True)
    return node


def _ask_hue(w: World, s: Slots) -> Node:
    if "G" in s:
        w.recall("container", s["G"])
    return w.asked(HUE.of(s))


def _hue_fraction(w: World, s: Slots) -> Node:
    part = w.asked(HUE.of(s))
    return w.calc("/", part, _all_hues(w, s), "The fraction is", "")


def _cut(w: World, s: Slots) -> None:
    if w.lists.setdefault("dish", [s["N"]]) != [s["N"]]:
        raise UnsolvableError(Reason.CONTRADICTION)
    node = SLICES.leaf(w, s["n"])
    w.state("slices", node)
    w.state("slices left", node)


def _eats(w: World, s: Slots) -> None:
    node = EATEN.leaf(w, s["n"])
    EATEN.change(w, s, "+", node)
    SLICES.change(w, s, "-", node)


def _eats_than(op: str) -> Effect:
    def effect(w: World, s: Slots) -> None:
        by = w.leaf(s["M"]) if op == "*" else EATEN.leaf(w, s["n"])
        node = EATEN.calc(w, s, op, EATEN.base(w, EATEN.than(s, "B")), by)
        w.state(EATEN.of(s), node)
        SLICES.change(w, s, "-", node)

    return effect


def _of_dish(w: World, s: Slots) -> Node:
    if w.lists.get("dish") != [s["N"]]:
        raise UnsolvableError(Reason.UNKNOWN)
    return w.asked("slices")


def _fraction_left(w: World, s: Slots) -> Node:
    return w.calc("/", w.asked("slices left"), _of_dish(w, s), "The fraction is", "")


def _fraction_eaten(*others: str) -> Effect:
    def effect(w: World, s: Slots) -> Node:
        node = g.asks_total(EATEN, *others)(w, s)
        assert node is not None
        return w.calc("/", node, _of_dish(w, s), "The fraction is", "")

    return effect


_CROWD = (
    kind(
        "crowd.set",
        _placed(g.states(CROWD)),
        "There are {n} {P} in the {L}.",
        "At first, there are {n} {P} in the {L}.",
    ),
    kind("crowd.groups", _placed(g.states_groups(CROWD)), "There are {k} [groups|rows|teams] of {n} {P} in the {L}."),
    kind("crowd.add", g.changes("+", CROWD), "{n} more {P} [come in|arrive|join]."),
    kind("crowd.sub", g.changes("-", CROWD), "{n} {P} [leave|go home].", "{n} of the {P} [leave|go home]."),
    kind("crowd.both", _off_and_on(CROWD), "{n} {P} [leave|go home] and {m} more [come in|arrive|join]."),
    kind("crowd.swap", _in_and_out, "{n} more {P} [come in|arrive] and then {m} of the {P} [leave|go home]."),
    kind("crowd.up", g.changes_groups("+", CROWD), "{k} groups of {n} {P} [come in|arrive]."),
    kind("crowd.down", g.changes_groups("-", CROWD), "{k} groups of {n} {P} [leave|go home]."),
    kind("crowd.part", g.takes_part(CROWD), "{F} of the {P} [leave|go home]."),
    kind("crowd.girls", _girls, "{F} of the {P} are girls and the rest are boys."),
    kind("crowd.ask", _ask_place, "How many {P} are [in the {L}|in the {L} now|left|left in the {L}]?"),
    kind("crowd.girls_ask", g.asks_key("girls {P}"), "How many of the {P} are girls?"),
    kind("crowd.boys_ask", _boys, "How many of the {P} are boys?"),
    kind("team.of", g.packs(CROWD, "teams", "They form", "teams"), "The {P} form teams of {n}."),
    kind("team.ask", g.asks_key("teams"), "How many teams are there?", "How many teams do they form?"),
    kind("team.into", g.splits(CROWD, "team size", "Each team has"), "The {P} form {k} equal teams."),
    kind("team.size", g.asks_key("team size"), "How many {P} are on each team?"),
)
_BUS = (
    kind("bus.set", g.states(BUS), "A bus has {n} people on it.", "There are {n} people on a bus."),
    kind("bus.add", g.changes("+", BUS), "{n} more people get on.", "At [a|the next] stop, {n} people get on."),
    kind("bus.sub", g.changes("-", BUS), "{n} people get off.", "At [a|the next] stop, {n} people get off."),
    kind("bus.both", _off_and_on(BUS), "At [a|the next|the last] stop, {n} people get off and {m} people get on."),
    kind("bus.part", g.takes_part(BUS), "{F} of the people get off."),
    kind("bus.ask", g.asks(BUS), "How many people are on the bus[| now| in the end]?"),
    kind("bus.seats", g.asks_needed(BUS, "There are", "seats"), "If the bus has {n} seats, how many seats are empty?"),
)
_PLANTS = (
    kind(
        "plant.first", g.changes_groups("+", PLANT), "{A} plants {k} rows of {n} {I}.", "There are {k} rows of {n} {I}."
    ),
    kind("plant.rows", g.changes_groups("+", PLANT), "{A} plants {k} more rows of {n} {I}."),
    kind("plant.add", g.changes("+", PLANT), "{A} plants {n} more {I}."),
    kind("plant.sub", g.changes("-", PLANT), "{n} of the {I} die.", "{n} {I} die.", "{A} cuts {n} of the {I}."),
    kind("plant.part", g.takes_part(PLANT), "{F} of the {I} die."),
    kind("plant.ask", g.asks(PLANT), "How many {I} are [there|there now|left]?"),
)
_HUES = (
    kind(
        "hue.two",
        _two_hues,
        "A {g} holds {n} {X} {I} and {m} {Q} {I}.",
        "There are {n} {X} {I} and {m} {Q} {I} in a {g}.",
    ),
    kind("hue.one", _one_hue, "A {g} holds {n} {X} {I}.", "There are {n} {X} {I} in a {g}."),
    kind("hue.also", _one_hue, "There are also {n} {X} {I}.", "The {g} also holds {n} {X} {I}."),
    kind("hue.more", _hue_than("+"), "There are {n} more {X} {I} than {Q} ones."),
    kind("hue.fewer", _hue_than("-"), "There are {n} fewer {X} {I} than {Q} ones."),
    kind("hue.times", _hue_than("*"), "There are {M} as many {X} {I} as {Q} ones."),
    kind("hue.add", g.changes("+", HUE), "{A} [puts in|adds] {n} [|more] {X} {I}."),
    kind("hue.sub", g.changes("-", HUE), "{A} takes out {n} {X} {I}."),
    kind("hue.all", _all_hues, "How many {I} are in the {g}[| now]?", "How many {I} are there in all?"),
    kind("hue.ask", _ask_hue, "How many {X} {I} are [in the {g}|in the {g} now|there]?"),
    kind("hue.fraction", _hue_fraction, "What fraction of the {I} are {X}?"),
)
_PIZZA = (
    kind("pizza.cut", _cut, "A {N} is cut into {n} [|equal] slices."),
    kind("pizza.eat", _eats, "{A} eats {n} slices."),
    kind("pizza.more", _eats_than("+"), "{A} eats {n} more slices than {B}."),
    kind("pizza.times", _eats_than("*"), "{A} eats {M} as many slices as {B}."),
    kind("pizza.left", g.asks(SLICES), "How many slices are left?"),
    kind("pizza.part_left", _fraction_left, "What fraction of the {N} is left?"),
    kind("pizza.part", _fraction_eaten(), "What fraction of the {N} does {A} eat?"),
    kind("pizza.part2", _fraction_eaten("B"), "What fraction of the {N} do {A} and {B} eat [together|in all]?"),
    kind("pizza.total", g.asks_total(EATEN, "B"), "How many slices do {A} and {B} eat [together|in all]?"),
)
KINDS: tuple[Kind, ...] = (*_CROWD, *_BUS, *_PLANTS, *_HUES, *_PIZZA)
