"""Sentences about what people do in numbers: ages, points, pages, miles, minutes."""

from __future__ import annotations

from sq.domains.arithmetic import quantity as g
from sq.domains.arithmetic.grammar import Effect, Kind, Slots, kind
from sq.domains.arithmetic.world import Node, World

AGE = g.Quantity("age {A}", "{A} is", "years old", whole=False)
POINTS = g.Quantity("points {A}", "{A} scores", "points", total=True)
READ = g.Quantity("read {A}", "{A} reads", "pages", total=True)
LEFT = g.Quantity("pages left", "There are", "pages left")
WENT = g.Quantity("went {A} {O}", "{A} {O}", "miles", whole=False, total=True)
GOES = g.Quantity("goes {A}", "{A} goes", "miles", whole=False, total=True)
TRIP = g.Quantity("trip left", "That leaves", "miles", whole=False)
HOURS = g.Quantity("hours", "It takes", "hours", whole=False)
SPEED = g.Quantity("speed", "The speed is", "miles an hour", whole=False)
SPENT = g.Quantity("minutes {A} {Y}", "{A} spends", "minutes", whole=False, total=True, slot="Y")
DAY = g.Quantity("minutes {A}", "{A} spends", "minutes", whole=False, total=True)


def _age_later(op: str) -> Effect:
    verb = "will be" if op == "+" else "was"

    def effect(w: World, s: Slots) -> Node:
        return AGE.calc(w, s, op, w.asked(AGE.of(s)), w.leaf(s["n"]), f"{s['A']} {verb}")

    return effect


def _reads(product: bool) -> Effect:
    def effect(w: World, s: Slots) -> None:
        node = READ.times(w, s) if product else READ.leaf(w, s["n"])
        READ.change(w, s, "+", node)
        if "pages left" in w.now:
            LEFT.change(w, s, "-", node)

    return effect


def _goes(product: bool) -> Effect:
    def effect(w: World, s: Slots) -> None:
        _gone(w, s, WENT.times(w, s) if product else WENT.leaf(w, s["n"]))

    return effect


def _goes_on_two(w: World, s: Slots) -> None:
    _gone(w, s, WENT.leaf(w, s["n"]))
    _gone(w, s, WENT.leaf(w, s["m"]))


def _gone(w: World, s: Slots, node: Node) -> None:
    WENT.change(w, s, "+", node)
    GOES.change(w, s, "+", node)
    if "trip left" in w.now:
        TRIP.change(w, s, "-", node)


def _goes_than(op: str) -> Effect:
    def effect(w: World, s: Slots) -> None:
        base = WENT.base(w, WENT.than(s, "B"))
        node = WENT.calc(w, s, op, base, w.leaf(s["M"] if op == "*" else s["n"]))
        w.state(WENT.of(s), node)
        GOES.change(w, s, "+", node)

    return effect


def _both(quantity: g.Quantity) -> Effect:
    def effect(w: World, s: Slots) -> None:
        g.changes("+", quantity)(w, s)
        g.changes("+", quantity, slot="m")(w, s)

    return effect


def _reads_on_two(w: World, s: Slots) -> None:
    _reads(False)(w, s)
    _reads(False)(w, {**s, "n": s["m"]})


def _drive_time(w: World, s: Slots) -> None:
    node = w.calc("/", WENT.leaf(w, s["n"]), WENT.leaf(w, s["m"]), "It takes", "hours")
    w.state("hours", node)


def _trip_time(w: World, s: Slots) -> Node:
    return w.calc("/", w.asked("trip left"), WENT.leaf(w, s["n"]), "It takes", "hours")


def _speed(w: World, s: Slots) -> None:
    node = w.calc("/", WENT.leaf(w, s["n"]), WENT.leaf(w, s["k"]), "The speed is", "miles an hour")
    w.state("speed", node)


def _minutes(product: bool) -> Effect:
    def effect(w: World, s: Slots) -> None:
        node = SPENT.times(w, s) if product else SPENT.leaf(w, s["n"])
        SPENT.change(w, s, "+", node)
        DAY.change(w, s, "+", node)

    return effect


def _minutes_on_two(w: World, s: Slots) -> None:
    _minutes(False)(w, s)
    _minutes(False)(w, {**s, "Y": s["H"], "n": s["m"]})


def _minutes_more(op: str) -> Effect:
    def effect(w: World, s: Slots) -> None:
        base = SPENT.base(w, SPENT.than(s, "H"))
        node = SPENT.calc(w, s, op, base, w.leaf(s["M"] if op == "*" else s["n"]))
        w.state(SPENT.of(s), node)
        DAY.change(w, s, "+", node)

    return effect


_READS, _GOES, _SCORES = _reads(False), _goes(False), g.changes("+", POINTS)
_AGE = (
    kind("age.set", g.states(AGE), "{A} is {n} years old."),
    kind("age.more", g.compares(AGE, "+"), "{A} is {n} years older than {B}."),
    kind("age.less", g.compares(AGE, "-"), "{A} is {n} years younger than {B}."),
    kind("age.times", g.multiplies(AGE), "{A} is {M} as old as {B}."),
    kind("age.fraction", g.divides(AGE), "{A} is {F} as old as {B}."),
    kind("age.ask", g.asks(AGE), "How old is {A}[| now]?", "What is the age of {A}?"),
    kind("age.later", _age_later("+"), "How old will {A} be in {n} years?"),
    kind("age.ago", _age_later("-"), "How old was {A} {n} years ago?"),
    kind("age.total", g.asks_total(AGE, "B"), "What is the [sum of the ages|total age] of {A} and {B}?"),
    kind("age.total3", g.asks_total(AGE, "B", "C"), "What is the [sum of the ages|total age] of {A}, {B} and {C}?"),
    kind("age.average", g.asks_average(AGE, "B"), "What is the average age of {A} and {B}?"),
    kind("age.average3", g.asks_average(AGE, "B", "C"), "What is the average age of {A}, {B} and {C}?"),
    kind("age.diff", g.asks_difference(AGE), "How many years older is {A} than {B}?"),
)
_POINTS = (
    kind(
        "points.add", _SCORES, "{A} scores {n} more points.", "{A} scores {n} points in the [next|last] [game|round]."
    ),
    kind("points.first", _SCORES, "{A} scores {n} points.", "{A} scores {n} points in the first [game|round]."),
    kind("points.both", _both(POINTS), "{A} scores {n} points in one game and {m} points in another."),
    kind(
        "points.sub",
        g.changes("-", POINTS),
        "{A} loses {n} points.",
        "{A} loses {n} points in the [next|last] [game|round].",
    ),
    kind("points.each", g.changes_groups("+", POINTS), "{A} scores {n} points in each of {k} [games|rounds]."),
    kind("points.more", g.compares(POINTS, "+"), "{A} scores {n} more points than {B}."),
    kind("points.fewer", g.compares(POINTS, "-"), "{A} scores {n} fewer points than {B}."),
    kind("points.times", g.multiplies(POINTS), "{A} scores {M} as many points as {B}."),
    kind("points.fraction", g.divides(POINTS), "{A} scores {F} as many points as {B}."),
    kind("points.ask", g.asks(POINTS), "How many points does {A} [score|have][| now| in all]?"),
    kind("points.total", g.asks_total(POINTS, "B"), "How many points do {A} and {B} score [together|in all]?"),
    kind(
        "points.total3", g.asks_total(POINTS, "B", "C"), "How many points do {A}, {B} and {C} score [together|in all]?"
    ),
    kind("points.diff", g.asks_difference(POINTS), "How many more points does {A} score than {B}?"),
    kind("points.average", g.asks_average(POINTS, "B"), "What is the average score of {A} and {B}?"),
    kind("points.average3", g.asks_average(POINTS, "B", "C"), "What is the average score of {A}, {B} and {C}?"),
    kind("points.need", g.asks_needed(POINTS, "{A} needs"), "How many more points does {A} need to reach {n}?"),
)
_PAGES = (
    kind("pages.set", g.states(LEFT), "A [book|story] has {n} pages.", "{A} has a book of {n} pages."),
    kind("pages.first", _READS, "{A} reads {n} pages on {D}.", "On {D}, {A} reads {n} pages.", "{A} reads {n} pages."),
    kind("pages.read", _READS, "{A} reads {n} pages on {D}.", "{A} reads {n} more pages."),
    kind("pages.both", _reads_on_two, "{A} reads {n} pages on {D} and {m} pages on {E}."),
    kind(
        "pages.rate",
        _reads(True),
        "{A} reads {n} pages each day for {k} days.",
        "{A} reads {n} pages an hour for {k} hours.",
    ),
    kind("pages.more", g.compares(READ, "+"), "{A} reads {n} more pages than {B}."),
    kind("pages.times", g.multiplies(READ), "{A} reads {M} as many pages as {B}."),
    kind("pages.ask", g.asks(READ), "How many pages does {A} read[| in all]?"),
    kind("pages.total", g.asks_total(READ, "B"), "How many pages do {A} and {B} read [together|in all]?"),
    kind("pages.diff", g.asks_difference(READ), "How many more pages does {A} read than {B}?"),
    kind("pages.left", g.asks(LEFT), "How many pages are left[| to read]?"),
    kind(
        "pages.finish",
        g.splits(LEFT, "daily pages", "That is", "pages"),
        "{A} reads the rest in {k} days, the same number each day.",
    ),
    kind("pages.daily", g.asks_key("daily pages"), "How many pages is that each day?"),
)
_TRIP = (
    kind("trip.set", g.states(TRIP), "A trip is {n} miles long.", "{A} has a trip of {n} miles."),
    kind("trip.first", _GOES, "{A} {O} {n} miles.", "{A} {O} {n} miles on {D}."),
    kind("trip.go", _GOES, "{A} {O} {n} more miles.", "{A} {O} {n} miles on {D}."),
    kind("trip.both", _goes_on_two, "{A} {O} {n} miles on {D} and {m} miles on {E}."),
    kind(
        "trip.rate",
        _goes(True),
        "{A} {O} at {n} miles an hour for {k} hours.",
        "{A} {O} {n} miles each day for {k} days.",
    ),
    kind("trip.more", _goes_than("+"), "{A} {O} {n} more miles than {B}."),
    kind("trip.times", _goes_than("*"), "{A} {O} {M} as far as {B}."),
    kind("trip.ask", g.asks(WENT), "How many miles does {A} {o}[| in all]?", "How far does {A} {o}?"),
    kind("trip.far", g.asks(GOES), "How far does {A} go in all?", "How many miles does {A} go in all?"),
    kind("trip.total", g.asks_total(WENT, "B"), "How many miles do {A} and {B} {o} [together|in all]?"),
    kind("trip.diff", g.asks_difference(WENT), "How many more miles does {A} {o} than {B}?"),
    kind("trip.left", g.asks(TRIP), "How many miles are left[| to go]?"),
    kind("trip.rest", _trip_time, "At {n} miles an hour, how many hours does the rest take?"),
    kind("trip.drive", _drive_time, "{A} {O} {n} miles at {m} miles an hour."),
    kind("trip.hours", g.asks_key("hours"), "How many hours does [the trip|it] take?"),
    kind("trip.pace", _speed, "{A} {O} {n} miles in {k} hours."),
    kind("trip.stop", g.changes("+", HOURS), "On the way, {A} rests for {n} hours."),
    kind(
        "trip.faster",
        g.changes("+", SPEED),
        "On the last day, {A} goes {n} miles an hour faster.",
        "On the way back, {A} goes {n} miles an hour faster.",
    ),
    kind("trip.speed", g.asks_key("speed"), "What is the speed [in miles an hour|now]?"),
)
_TIME = (
    kind("time.spend", _minutes(False), "{A} spends {n} minutes on {Y}."),
    kind("time.both", _minutes_on_two, "{A} spends {n} minutes on {Y} and {m} minutes on {H}."),
    kind("time.again", _minutes(False), "{A} spends {n} more minutes on {Y}."),
    kind("time.rate", _minutes(True), "{A} spends {n} minutes a day on {Y} for {k} days."),
    kind("time.more", _minutes_more("+"), "{A} spends {n} more minutes on {Y} than on {H}."),
    kind("time.fewer", _minutes_more("-"), "{A} spends {n} fewer minutes on {Y} than on {H}."),
    kind("time.times", _minutes_more("*"), "{A} spends {M} as long on {Y} as on {H}."),
    kind("time.ask", g.asks(SPENT), "How many minutes does {A} spend on {Y}[| in all]?"),
    kind("time.all", g.asks(DAY), "How many minutes does {A} spend in all?"),
    kind("time.total", g.asks_total(DAY, "B"), "How many minutes do {A} and {B} spend [together|in all]?"),
    kind("time.diff", g.asks_difference(DAY), "How many more minutes does {A} spend than {B}?"),
)
KINDS: tuple[Kind, ...] = (*_AGE, *_POINTS, *_PAGES, *_TRIP, *_TIME)
