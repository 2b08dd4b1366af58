"""Sentences about things, people, plants and what is made: who has how many, and how many there are."""

from __future__ import annotations

from sq.domains.arithmetic import gauge as g
from sq.domains.arithmetic.grammar import Kind, Slots, kind
from sq.domains.arithmetic.world import Node, Reason, UnsolvableError, World

HAVE = g.Gauge("have {A} {I}", "{A} has", "{I}")
POOL = g.Gauge("pool {I}", "They have", "{I}")
CROWD = g.Gauge("crowd {P}", "There are", "{P}")
MADE = g.Gauge("made {A} {I}", "{A} makes", "{I}", total=True)
PLANT = g.Gauge("plant {I}", "There are", "{I}", total=True)
BUS = g.Gauge("bus", "The bus has", "people")
HUE = g.Gauge("hue {I} {X}", "There are", "{X} {I}", slot="X")
SLICES = g.Gauge("slices left", "There are", "slices")
EATEN = g.Gauge("eaten {A}", "{A} eats", "slices", total=True)


def _pool(w: World, s: Slots) -> None:
    mine, theirs = w.get(HAVE.of(s)), w.get(HAVE.than(s, "B"))
    w.state(POOL.of(s), POOL.calc(w, s, "+", mine, theirs))


def _ratio(w: World, s: Slots) -> None:
    one = w.calc("/", w.get(HAVE.of(s)), HAVE.leaf(w, s["n"]), "There are", "groups", whole=True)
    w.state(HAVE.than({**s, "I": s["J"]}, "A"), HAVE.calc(w, {**s, "I": s["J"]}, "*", one, HAVE.leaf(w, s["m"])))


def _off_and_on(w: World, s: Slots) -> None:
    BUS.change(w, s, "-", BUS.leaf(w, s["n"]))
    BUS.change(w, s, "+", BUS.leaf(w, s["m"]))


def _part_are(w: World, s: Slots) -> None:
    node = g.share_of(CROWD, w, s, CROWD.current(w, CROWD.of(s)), s["F"])
    w.state(f"girls {s['P']}", node)


def _boys(w: World, s: Slots) -> Node:
    girls = w.asked(f"girls {s['P']}")
    return w.calc("-", w.asked(CROWD.of(s)), girls, "There are", "boys", whole=True)


def _hue(w: World, s: Slots, slot: str, node: Node) -> None:
    w.state(HUE.than(s, slot), node)
    names = w.lists.setdefault(f"hues {s['I']}", [])
    if s[slot] not in names:
        names.append(s[slot])


def _two_hues(w: World, s: Slots) -> None:
    _hue(w, s, "X", HUE.leaf(w, s["n"]))
    _hue(w, s, "Q", HUE.leaf(w, s["m"]))


def _hue_more(op: str) -> g.Effect:
    def effect(w: World, s: Slots) -> None:
        base = w.get(HUE.than(s, "Q"))
        _hue(w, s, "X", HUE.calc(w, s, op, base, w.leaf(s["M"] if op == "*" else s["n"])))

    return effect


def _all_hues(w: World, s: Slots) -> Node:
    names = w.lists.get(f"hues {s['I']}")
    if not names:
        raise UnsolvableError(Reason.UNKNOWN)
    node = w.asked(HUE.than({**s, "Q": names[0]}, "Q"))
    for name in names[1:]:
        other = w.asked(HUE.than({**s, "Q": name}, "Q"))
        node = w.calc("+", node, other, "The total is", s["I"], whole=True)
    return node


def _hue_fraction(w: World, s: Slots) -> Node:
    part = w.asked(HUE.of(s))
    return w.calc("/", part, _all_hues(w, s), "The fraction is", "")


def _cut_pizza(w: World, s: Slots) -> None:
    node = SLICES.leaf(w, s["n"])
    w.state("slices", node)
    w.state("slices left", node)


def _fraction_left(w: World, s: Slots) -> Node:
    return w.calc("/", w.asked("slices left"), w.asked("slices"), "The fraction is", "")


def _fraction_eaten(*others: str) -> g.Effect:
    def effect(w: World, s: Slots) -> Node:
        node = g.asks_total(EATEN, *others)(w, s)
        assert node is not None
        return w.calc("/", node, w.asked("slices"), "The fraction is", "")

    return effect


def _eats(w: World, s: Slots) -> None:
    node = EATEN.leaf(w, s["n"])
    EATEN.change(w, s, "+", node)
    SLICES.change(w, s, "-", node)


def _eats_more(w: World, s: Slots) -> None:
    node = EATEN.calc(w, s, "+", EATEN.base(w, EATEN.than(s, "B")), EATEN.leaf(w, s["n"]))
    w.state(EATEN.of(s), node)
    SLICES.change(w, s, "-", node)


KINDS: tuple[Kind, ...] = (
    kind(
        "have.set",
        g.states(HAVE),
        "{A} has {n} {I}.",
        "{A} starts with {n} {I}.",
        "{A} owns {n} {I}.",
        "At first, {A} has {n} {I}.",
    ),
    kind("have.groups", g.states_groups(HAVE), "{A} has {k} {G} with {n} {I} in each.", "{A} has {k} {G} of {n} {I}."),
    kind(
        "have.add",
        g.changes("+", HAVE),
        "{A} [buys|finds|gets] {n} more {I}.",
        "{A} gets {n} more {I} from a friend.",
        "A friend gives {A} {n} more {I}.",
    ),
    kind(
        "have.sub",
        g.changes("-", HAVE),
        "{A} [loses|sells|gives away] {n} {I}.",
        "{A} [loses|sells] {n} of the {I}.",
        "{A} gives {n} {I} to a friend.",
    ),
    kind("have.eat", g.changes("-", HAVE), "{A} eats {n} {I}.", "{A} eats {n} of the {I}."),
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
        "have.average3",
        g.asks_average(HAVE, "B", "C"),
        "What is the average number of {I} that {A}, {B} and {C} have?",
    ),
    kind(
        "have.need",
        g.asks_needed(HAVE),
        "How many more {I} does {A} need to have {n}?",
        "How many more {I} must {A} get to have {n}?",
    ),
    kind(
        "share.do",
        g.splits(HAVE, "share {I}", "Each gets"),
        "{A} shares the {I} equally among {k} {P}.",
        "{A} divides the {I} equally among {k} {P}.",
    ),
    kind("share.ask", g.asks_key("share {I}"), "How many {I} does each {p} get?"),
    kind("pack.do", g.packs(HAVE, "packs {G}", "{A} fills", "{G}"), "{A} [packs|puts] the {I} into {G} of {n}."),
    kind("pack.ask", g.asks_key("packs {G}"), "How many {G} does {A} [fill|need]?"),
    kind("pool.do", _pool, "{A} and {B} put their {I} together."),
    kind("pool.share", g.splits(POOL, "share {I}", "Each gets"), "They share the {I} equally among {k} {P}."),
    kind("pool.pack", g.packs(POOL, "packs {G}", "They fill", "{G}"), "They [pack|put] the {I} into {G} of {n}."),
    kind("pool.ask", g.asks_key("packs {G}"), "How many {G} do they [fill|need]?"),
    kind("ratio.do", _ratio, "For every {n} {I}, {A} has {m} {J}."),
    kind("crowd.set", g.states(CROWD), "There are {n} {P} in the {L}.", "At first, there are {n} {P} in the {L}."),
    kind(
        "crowd.groups",
        g.states_groups(CROWD),
        "There are {k} [groups|rows|teams] of {n} {P} in the {L}.",
    ),
    kind("crowd.add", g.changes("+", CROWD), "{n} more {P} [come in|arrive|join]."),
    kind("crowd.sub", g.changes("-", CROWD), "{n} {P} [leave|go home].", "{n} of the {P} [leave|go home]."),
    kind("crowd.up", g.changes_groups("+", CROWD), "{k} groups of {n} {P} [come in|arrive]."),
    kind("crowd.down", g.changes_groups("-", CROWD), "{k} groups of {n} {P} [leave|go home]."),
    kind("crowd.part", g.takes_part(CROWD), "{F} of the {P} [leave|go home]."),
    kind("crowd.girls", _part_are, "{F} of the {P} are girls and the rest are boys."),
    kind("crowd.ask", g.asks(CROWD), "How many {P} are [in the {L} now|in the {L}|left|left in the {L}]?"),
    kind("crowd.girls_ask", g.asks_key("girls {P}"), "How many of the {P} are girls?"),
    kind("crowd.boys_ask", _boys, "How many of the {P} are boys?"),
    kind("team.of", g.packs(CROWD, "teams", "They form", "teams"), "The {P} form teams of {n}."),
    kind("team.ask", g.asks_key("teams"), "How many teams are there?", "How many teams do they form?"),
    kind("team.into", g.splits(CROWD, "team size", "Each team has"), "The {P} form {k} equal teams."),
    kind("team.size", g.asks_key("team size"), "How many {P} are on each team?"),
    kind("bus.set", g.states(BUS), "A bus has {n} people on it.", "There are {n} people on a bus."),
    kind("bus.add", g.changes("+", BUS), "{n} [|more] people get on.", "At a stop, {n} people get on."),
    kind("bus.sub", g.changes("-", BUS), "{n} people get off.", "At a stop, {n} people get off."),
    kind("bus.both", _off_and_on, "At [a|the next|the last] stop, {n} people get off and {m} people get on."),
    kind("bus.part", g.takes_part(BUS), "{F} of the people get off."),
    kind("bus.ask", g.asks(BUS), "How many people are on the bus [now|in the end]?"),
    kind("bus.seats", g.asks_needed(BUS), "If the bus has {n} seats, how many seats are empty?"),
    kind("made.day", g.changes("+", MADE), "{A} [makes|packs|collects] {n} {I} on {D}.", "On {D}, {A} [makes|packs|collects] {n} {I}."),
    kind(
        "made.rate",
        g.changes_groups("+", MADE),
        "{A} [makes|packs|collects] {n} {I} [an hour for {k} hours|each day for {k} days].",
    ),
    kind("made.more", g.compares(MADE, "+"), "{A} [makes|packs|collects] {n} more {I} than {B}."),
    kind("made.fewer", g.compares(MADE, "-"), "{A} [makes|packs|collects] {n} fewer {I} than {B}."),
    kind("made.times", g.multiplies(MADE), "{A} [makes|packs|collects] {M} as many {I} as {B}."),
    kind("made.ask", g.asks(MADE), "How many {I} does {A} [make|pack|collect][| in all]?"),
    kind("made.total", g.asks_total(MADE, "B"), "How many {I} do {A} and {B} [make|pack|collect] [together|in all]?"),
    kind("made.diff", g.asks_difference(MADE), "How many more {I} does {A} [make|pack|collect] than {B}?"),
    kind("plant.rows", g.changes_groups("+", PLANT), "{A} plants {k} rows of {n} {I}.", "There are {k} rows of {n} {I}."),
    kind("plant.add", g.changes("+", PLANT), "{A} plants {n} [|more] {I}."),
    kind("plant.sub", g.changes("-", PLANT), "{n} of the {I} die.", "{n} {I} die.", "{A} cuts {n} of the {I}."),
    kind("plant.part", g.takes_part(PLANT), "{F} of the {I} die."),
    kind("plant.ask", g.asks(PLANT), "How many {I} are [there|there now|left]?"),
    kind("hue.two", _two_hues, "A {g} holds {n} {X} {I} and {m} {Q} {I}.", "There are {n} {X} {I} and {m} {Q} {I} in a {g}."),
    kind("hue.one", lambda w, s: _hue(w, s, "X", HUE.leaf(w, s["n"])), "A {g} holds {n} {X} {I}.", "There are {n} {X} {I} in a {g}.", "There are also {n} {X} {I}."),
    kind("hue.more", _hue_more("+"), "There are {n} more {X} {I} than {Q} ones."),
    kind("hue.fewer", _hue_more("-"), "There are {n} fewer {X} {I} than {Q} ones."),
    kind("hue.times", _hue_more("*"), "There are {M} as many {X} {I} as {Q} ones."),
    kind("hue.add", g.changes("+", HUE), "{A} [puts in|adds] {n} [|more] {X} {I}."),
    kind("hue.sub", g.changes("-", HUE), "{A} takes out {n} {X} {I}."),
    kind("hue.all", _all_hues, "How many {I} are in the {g}[| now]?", "How many {I} are there in all?"),
    kind("hue.ask", g.asks(HUE), "How many {X} {I} are [in the {g}|in the {g} now|there]?"),
    kind("hue.fraction", _hue_fraction, "What fraction of the {I} are {X}?"),
    kind("pizza.cut", _cut_pizza, "A [pizza|pie|cake] is cut into {n} [|equal] slices.", "{A} cuts a [pizza|pie|cake] into {n} [|equal] slices."),
    kind("pizza.eat", _eats, "{A} eats {n} slices."),
    kind("pizza.more", _eats_more, "{A} eats {n} more slices than {B}."),
    kind("pizza.left", g.asks(SLICES), "How many slices are left?"),
    kind("pizza.part_left", _fraction_left, "What fraction of the [pizza|pie|cake] is left?"),
    kind("pizza.part", _fraction_eaten(), "What fraction of the [pizza|pie|cake] does {A} eat?"),
    kind("pizza.part2", _fraction_eaten("B"), "What fraction of the [pizza|pie|cake] do {A} and {B} eat [together|in all]?"),
    kind("pizza.total", g.asks_total(EATEN, "B"), "How many slices do {A} and {B} eat [together|in all]?"),
)
