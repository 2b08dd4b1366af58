"""The families of one quantity: how each is stated, what may happen to it, and how it may be asked for."""

from __future__ import annotations

from sq.domains.arithmetic.chains import Chain, Extra
from sq.domains.arithmetic.lexicon import COLOURS, CONTAINERS, MAKES, MOVES, PEOPLE, PLACES, PLANTS
from sq.domains.arithmetic.story import Story


def _owner(st: Story) -> Extra:
    a, b = st.names(2)
    return {
        "A": a,
        "B": b,
        "I": st.item(),
        "G": st.choose(CONTAINERS),
        "P": st.choose(PEOPLE),
        "K": st.choose(tuple(MAKES)),
    }


def _mover(st: Story) -> Extra:
    return {"A": st.names(1)[0], "O": st.choose(tuple(MOVES))}


def _crowd(st: Story) -> Extra:
    return {"P": st.choose(PEOPLE), "L": st.choose(PLACES)}


def _garden(st: Story) -> Extra:
    return {"A": st.names(1)[0], "I": st.choose(PLANTS)}


def _bead(st: Story) -> Extra:
    x, q = st.rng.sample(COLOURS, 2)
    return {"A": st.names(1)[0], "I": st.thing(), "G": "bags", "X": x, "Q": q}


def _buyer(st: Story) -> Extra:
    item = st.thing()
    return {"A": st.names(1)[0], "I": item, "P": st.choose(PEOPLE)}


_HAVE = {
    "have.add": "add",
    "have.sub": "sub",
    "have.give": "sub",
    "have.eat": "sub",
    "have.both": "swap",
    "have.swap": "both",
}
_MONEY = {
    "money.earn": "add",
    "money.gift": "add",
    "money.spend": "sub",
    "money.daily": "down",
    "money.part": "part",
    "money.both": "swap",
}
CHAINS: dict[str, Chain] = {
    "giving": Chain("have {A} {I}", {"have.set": "n"}, _HAVE, {("have.ask",): 0, ("have.need",): 1}, _owner),
    "boxes": Chain(
        "have {A} {I}",
        {"have.groups": "groups", "have.set": "n"},
        {"have.up": "up", "have.down": "down", "have.sub": "sub", "have.add": "add"},
        {("have.ask",): 0},
        _owner,
    ),
    "fractions": Chain("have {A} {I}", {"have.set": "n"}, {"have.part": "part", **_HAVE}, {("have.ask",): 0}, _owner),
    "sharing": Chain(
        "have {A} {I}",
        {"have.set": "n", "have.groups": "groups"},
        {**_HAVE, "have.up": "up"},
        {("share.do", "share.ask"): 1},
        _owner,
    ),
    "packing": Chain(
        "have {A} {I}",
        {"have.set": "n", "have.groups": "groups"},
        {**_HAVE, "have.down": "down"},
        {("pack.do", "pack.ask"): 1},
        _owner,
    ),
    "crowd": Chain(
        "crowd {P}",
        {"crowd.set": "n", "crowd.groups": "groups"},
        {
            "crowd.add": "add",
            "crowd.sub": "sub",
            "crowd.up": "up",
            "crowd.down": "down",
            "crowd.part": "part",
            "crowd.both": "both",
            "crowd.swap": "swap",
        },
        {("crowd.ask",): 0},
        _crowd,
    ),
    "teams": Chain(
        "crowd {P}",
        {"crowd.set": "n", "crowd.groups": "groups"},
        {"crowd.add": "add", "crowd.sub": "sub", "crowd.up": "up"},
        {("team.of", "team.ask"): 1, ("team.into", "team.size"): 1},
        _crowd,
    ),
    "bus": Chain(
        "bus",
        {"bus.set": "n"},
        {"bus.add": "add", "bus.sub": "sub", "bus.both": "both", "bus.part": "part"},
        {("bus.ask",): 0, ("bus.seats",): 1},
        lambda st: {},
    ),
    "planting": Chain(
        "plant {I}",
        {"plant.first": "groups"},
        {"plant.rows": "up", "plant.add": "add", "plant.sub": "sub", "plant.part": "part"},
        {("plant.ask",): 0},
        _garden,
    ),
    "making": Chain(
        "made {A} {I} {K}",
        {"made.day": "n", "made.rate": "groups"},
        {"made.day": "add", "made.rate": "up", "made.two": "gain2"},
        {("made.ask",): 0},
        _owner,
    ),
    "savings": Chain(
        "money {A}",
        {"money.set": "n"},
        {"money.save": "up", **_MONEY},
        {("money.ask",): 0, ("money.goal", "money.short"): 1, ("money.goal", "money.weeks"): 2},
        _buyer,
    ),
    "spending": Chain(
        "money {A}",
        {"money.set": "n"},
        {"money.buy": "down", "money.sell": "up", "money.wage": "up", **_MONEY},
        {("money.ask",): 0, ("split.money", "split.ask"): 1},
        _buyer,
    ),
    "wages": Chain(
        "earned {A}",
        {"money.wage": "groups", "money.first": "n"},
        {"money.wage": "up", "money.earn": "add"},
        {("earned.ask",): 0},
        _buyer,
    ),
    "selling": Chain(
        "earned {A}",
        {"money.sell": "groups"},
        {"money.sell": "up", "money.earn": "add"},
        {("earned.ask",): 0},
        lambda st: {**_buyer(st)},
    ),
    "pages": Chain(
        "pages left",
        {"pages.set": "n"},
        {"pages.first": "sub", "pages.rate": "down", "pages.both": "loss2"},
        {("pages.left",): 0, ("pages.finish", "pages.daily"): 1},
        high=99,
    ),
    "reading": Chain(
        "read {A}",
        {"pages.first": "n", "pages.rate": "groups"},
        {"pages.read": "add", "pages.rate": "up", "pages.both": "gain2"},
        {("pages.ask",): 0},
    ),
    "trip": Chain(
        "trip left",
        {"trip.set": "n"},
        {"trip.first": "sub", "trip.rate": "down", "trip.both": "loss2"},
        {("trip.left",): 0, ("trip.rest",): 1},
        _mover,
        high=99,
    ),
    "distance": Chain(
        "went {A} {O}",
        {"trip.first": "n", "trip.rate": "groups"},
        {"trip.go": "add", "trip.rate": "up", "trip.both": "gain2"},
        {("trip.ask",): 0, ("trip.far",): 0},
        _mover,
    ),
    "points": Chain(
        "points {A}",
        {"points.first": "n", "points.each": "groups"},
        {"points.add": "add", "points.sub": "sub", "points.each": "up", "points.both": "gain2"},
        {("points.ask",): 0, ("points.need",): 1},
    ),
    "temperature": Chain(
        "heat",
        {"heat.set": "n"},
        {"heat.add": "add", "heat.sub": "sub", "heat.up": "up", "heat.down": "down", "heat.both": "swap"},
        {("heat.ask",): 0},
        lambda st: {},
    ),
    "rope": Chain(
        "rope",
        {"rope.set": "n"},
        {"rope.add": "add", "rope.sub": "sub", "rope.down": "down", "rope.part": "part"},
        {("rope.ask",): 0, ("rope.cut", "rope.piece"): 1},
        high=90,
    ),
    "tank": Chain(
        "tank",
        {"tank.set": "n"},
        {"tank.add": "add", "tank.sub": "sub", "tank.up": "up", "tank.down": "down", "tank.part": "part"},
        {("tank.ask",): 0, ("tank.need",): 1},
        high=90,
    ),
    "growth": Chain(
        "tall",
        {"tall.set": "n"},
        {"tall.add": "add", "tall.sub": "sub", "tall.up": "up"},
        {("tall.ask",): 0, ("tall.need",): 1},
        high=30,
    ),
    "number": Chain(
        "value {A}",
        {"value.set": "n"},
        {"value.add": "add", "value.sub": "sub", "value.mul": "mul", "value.div": "div"},
        {("value.ask",): 0},
        high=30,
    ),
    "colour change": Chain(
        "hue {I} {X}",
        {"hue.one": "n"},
        {"hue.add": "add", "hue.sub": "sub"},
        {("hue.ask",): 0},
        _bead,
    ),
}
