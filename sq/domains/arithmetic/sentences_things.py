"""Sentences about things somebody has or makes: how many, more or fewer than another, shared, packed, pooled."""

from __future__ import annotations

from sq.domains.arithmetic import quantity as g
from sq.domains.arithmetic.grammar import Kind, Slots, kind
from sq.domains.arithmetic.lexicon import FOODS
from sq.domains.arithmetic.world import Reason, UnsolvableError, World

HAVE = g.Quantity("have {A} {I}", "{A} has", "{I}")
POOL = g.Quantity("pool {I}", "They have", "{I}")
MADE = g.Quantity("made {A} {I} {K}", "{A} {K}", "{I}", total=True)


def _two(w: World, s: Slots) -> None:
    g.states(HAVE)(w, s)
    g.states(HAVE, "m")(w, {**s, "A": s["B"]})


def _eats(w: World, s: Slots) -> None:
    if s["I"] not in FOODS:
        raise UnsolvableError(Reason.NONSENSE)
    g.changes("-", HAVE)(w, s)


def _gain_and_loss(w: World, s: Slots) -> None:
    g.changes("+", HAVE)(w, s)
    g.changes("-", HAVE, slot="m")(w, s)


def _loss_and_gain(w: World, s: Slots) -> None:
    g.changes("-", HAVE)(w, s)
    g.changes("+", HAVE, slot="m")(w, s)


def _made_on_two(w: World, s: Slots) -> None:
    g.changes("+", MADE)(w, s)
    g.changes("+", MADE, slot="m")(w, s)


def _pool(w: World, s: Slots) -> None:
    mine, theirs = w.get(HAVE.of(s)), w.get(HAVE.than(s, "B"))
    w.state(POOL.of(s), POOL.calc(w, s, "+", mine, theirs))


def _ratio(w: World, s: Slots) -> None:
    one = w.calc("/", w.get(HAVE.of(s)), HAVE.leaf(w, s["n"]), "There are", "groups", whole=True)
    other = {**s, "I": s["J"]}
    w.state(HAVE.of(other), HAVE.calc(w, other, "*", one, HAVE.leaf(w, s["m"])))


_HAVE = (
    kind(
        "have.set",
        g.states(HAVE),
        "{A} has {n} {I}.",
        "{A} starts with {n} {I}.",
        "{A} owns {n} {I}.",
        "At first, {A} has {n} {I}.",
    ),
    kind("have.two", _two, "{A} has {n} {I} and {B} has {m}.", "{A} has {n} {I}, and {B} has {m} {I}."),
    kind("have.groups", g.states_groups(HAVE), "{A} has {k} {G} with {n} {I} in each.", "{A} has {k} {G} of {n} {I}."),
    kind(
        "have.add",
        g.changes("+", HAVE),
        "{A} [buys|finds|gets] {n} more {I}.",
        "{A} gets {n} more {I} from a friend.",
        "{A} gets {n} more {I} as a gift.",
    ),
    kind(
        "have.sub",
        g.changes("-", HAVE),
        "{A} [loses|sells|gives away] {n} {I}.",
        "{A} [loses|sells] {n} of the {I}.",
        "{A} gives {n} {I} to a friend.",
    ),
    kind("have.eat", _eats, "{A} eats {n} {I}.", "{A} eats {n} of the {I}."),
    kind("have.both", _gain_and_loss, "{A} [buys|finds|gets] {n} more {I} and then [gives away|sells|loses] {m}."),
    kind("have.swap", _loss_and_gain, "{A} [gives away|sells|loses] {n} {I} and then [buys|finds|gets] {m} more."),
    kind("have.give", g.gives(HAVE), "{A} gives {n} {I} to {B}.", "{A} gives {B} {n} {I}."),
    kind(
        "have.up",
        g.changes_groups("+", HAVE),
        "{A} buys {k} {G} of {n} {I} each.",
        "{A} gets {k} {G} with {n} {I} in each.",
        "{A} buys {n} more {I} each day for {k} days.",
    ),
    kind(
        "have.down",
        g.changes_groups("-", HAVE),
        "{A} sells {k} {G} of {n} {I} each.",
        "{A} gives {n} {I} to each of {k} {P}.",
        "{A} gives away {n} {I} each day for {k} days.",
    ),
    kind("have.part", g.takes_part(HAVE), "{A} [gives away|sells|loses] {F} of the {I}."),
    kind("have.more", g.compares(HAVE, "+"), "{A} has {n} more {I} than {B}."),
    kind("have.fewer", g.compares(HAVE, "-"), "{A} has {n} fewer {I} than {B}."),
    kind("have.times", g.multiplies(HAVE), "{A} has {M} as many {I} as {B}."),
    kind("have.fraction", g.divides(HAVE), "{A} has {F} as many {I} as {B}."),
    kind("have.ask", g.asks(HAVE), "How many {I} does {A} have[| now| left| in the end]?"),
    kind(
        "have.total",
        g.asks_total(HAVE, "B"),
        "How many {I} do {A} and {B} have [together|in all|altogether]?",
        "What is the total number of {I} that {A} and {B} have?",
    ),
    kind("have.total3", g.asks_total(HAVE, "B", "C"), "How many {I} do {A}, {B} and {C} have [together|in all]?"),
    kind("have.diff", g.asks_difference(HAVE), "How many more {I} does {A} have than {B}?"),
    kind("have.less", g.asks_difference(HAVE, more=False), "How many fewer {I} does {A} have than {B}?"),
    kind("have.average", g.asks_average(HAVE, "B"), "What is the average number of {I} that {A} and {B} have?"),
    kind(
        "have.average3", g.asks_average(HAVE, "B", "C"), "What is the average number of {I} that {A}, {B} and {C} have?"
    ),
    kind(
        "have.need",
        g.asks_needed(HAVE, "{A} needs"),
        "How many more {I} does {A} need to have {n}?",
        "How many more {I} must {A} get to have {n}?",
    ),
)
_SHARE = (
    kind(
        "share.do",
        g.splits(HAVE, "share {I} {P}", "Each gets"),
        "{A} shares the {I} equally among {k} {P}.",
        "{A} divides the {I} equally among {k} {P}.",
    ),
    kind("share.ask", g.asks_key("share {I} {P}"), "How many {I} does each {p} get?"),
    kind("pack.do", g.packs(HAVE, "packs {G}", "{A} fills", "{G}"), "{A} [packs|puts] the {I} into {G} of {n}."),
    kind("pack.ask", g.asks_key("packs {G}"), "How many {G} does {A} [fill|need]?"),
    kind("pool.do", _pool, "{A} and {B} put their {I} together."),
    kind("pool.share", g.splits(POOL, "share {I} {P}", "Each gets"), "They share the {I} equally among {k} {P}."),
    kind("pool.pack", g.packs(POOL, "packs {G}", "They fill", "{G}"), "They [pack|put] the {I} into {G} of {n}."),
    kind("pool.ask", g.asks_key("packs {G}"), "How many {G} do they [fill|need]?"),
    kind("ratio.do", _ratio, "For every {n} {I}, {A} has {m} {J}."),
)
_MADE = (
    kind("made.day", g.changes("+", MADE), "{A} {K} {n} {I} on {D}.", "On {D}, {A} {K} {n} {I}."),
    kind("made.two", _made_on_two, "{A} {K} {n} {I} on {D} and {m} {I} on {E}."),
    kind("made.rate", g.changes_groups("+", MADE), "{A} {K} {n} {I} [an hour for {k} hours|each day for {k} days]."),
    kind("made.more", g.compares(MADE, "+"), "{A} {K} {n} more {I} than {B}."),
    kind("made.fewer", g.compares(MADE, "-"), "{A} {K} {n} fewer {I} than {B}."),
    kind("made.times", g.multiplies(MADE), "{A} {K} {M} as many {I} as {B}."),
    kind("made.ask", g.asks(MADE), "How many {I} does {A} {v}[| in all]?"),
    kind("made.total", g.asks_total(MADE, "B"), "How many {I} do {A} and {B} {v} [together|in all]?"),
    kind("made.diff", g.asks_difference(MADE), "How many more {I} does {A} {v} than {B}?"),
)
KINDS: tuple[Kind, ...] = (*_HAVE, *_SHARE, *_MADE)
