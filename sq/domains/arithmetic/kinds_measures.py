"""Sentences about what is measured: ages, points, pages, distance, time, temperature, weight, length, shapes, recipes."""

from __future__ import annotations

from sq.domains.arithmetic import gauge as g
from sq.domains.arithmetic.grammar import Kind, Slots, kind
from sq.domains.arithmetic.world import Node, World

AGE = g.Gauge("age {A}", "{A} is", "years old", whole=False)
POINTS = g.Gauge("points {A}", "{A} scores", "points", total=True)
READ = g.Gauge("read {A}", "{A} reads", "pages", total=True)
LEFT = g.Gauge("pages left", "There are", "pages left")
WENT = g.Gauge("went {A}", "{A} goes", "miles", whole=False, total=True)
TRIP = g.Gauge("trip left", "That leaves", "miles", whole=False)
HEAT = g.Gauge("heat", "It is", "degrees", whole=False, floor=None)
ROPE = g.Gauge("rope", "The rope is", "meters", whole=False)
TANK = g.Gauge("tank", "The tank has", "liters", whole=False)
TALL = g.Gauge("tall", "The plant is", "inches", whole=False)
VALUE = g.Gauge("value {A}", "{A} gets", "", whole=False, floor=None)
WEIGHT = g.Gauge("weight {V}", "The {V} weighs", "pounds", whole=False, slot="V")
SPENT = g.Gauge("minutes {A} {Y}", "{A} spends", "minutes", whole=False, total=True, slot="Y")
DAY = g.Gauge("minutes {A}", "{A} spends", "minutes", whole=False, total=True)
CUPS = g.Gauge("cups {Z}", "The recipe needs", "cups of {Z}", whole=False, slot="Z")
STOCK = g.Gauge("stock {A} {Z}", "{A} has", "cups of {Z}", whole=False)


def _age_later(op: str) -> g.Effect:
    told = "will be" if op == "+" else "was"

    def effect(w: World, s: Slots) -> Node:
        return AGE.calc(w, s, op, w.asked(AGE.of(s)), w.leaf(s["n"]), f"{s['A']} {told}")

    return effect


def _reads(product: bool) -> g.Effect:
    def effect(w: World, s: Slots) -> None:
        node = READ.times(w, s) if product else READ.leaf(w, s["n"])
        READ.change(w, s, "+", node)
        if "pages left" in w.now:
            LEFT.change(w, s, "-", node)

    return effect


def _goes(product: bool) -> g.Effect:
    def effect(w: World, s: Slots) -> None:
        node = WENT.times(w, s) if product else WENT.leaf(w, s["n"])
        WENT.change(w, s, "+", node)
        if "trip left" in w.now:
            TRIP.change(w, s, "-", node)

    return effect


def _drive_time(w: World, s: Slots) -> None:
    node = w.calc("/", WENT.leaf(w, s["n"]), WENT.leaf(w, s["m"]), "It takes", "hours")
    w.state("hours", node)


def _trip_time(w: World, s: Slots) -> Node:
    return w.calc("/", w.asked("trip left"), WENT.leaf(w, s["n"]), "It takes", "hours")


def _speed(w: World, s: Slots) -> None:
    node = w.calc("/", WENT.leaf(w, s["n"]), WENT.leaf(w, s["k"]), "The speed is", "miles an hour")
    w.state("speed", node)


def _minutes(product: bool) -> g.Effect:
    def effect(w: World, s: Slots) -> None:
        node = SPENT.times(w, s) if product else SPENT.leaf(w, s["n"])
        SPENT.change(w, s, "+", node)
        DAY.change(w, s, "+", node)

    return effect


def _minutes_more(op: str) -> g.Effect:
    def effect(w: World, s: Slots) -> None:
        base = SPENT.base(w, SPENT.than(s, "H"))
        node = SPENT.calc(w, s, op, base, w.leaf(s["M"] if op == "*" else s["n"]))
        w.state(SPENT.of(s), node)
        DAY.change(w, s, "+", node)

    return effect


def _shape(w: World, s: Slots) -> None:
    w.state("length", _side(w, s["n"]))
    w.state("width", _side(w, s["m"]))


def _side(w: World, value: object) -> Node:
    return ROPE.leaf(w, value)  # type: ignore[arg-type]


def _square(w: World, s: Slots) -> None:
    side = _side(w, s["n"])
    w.state("length", side)
    w.state("width", side)


def _other_side(key: str, base: str, op: str) -> g.Effect:
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
    return w.calc("*", _perimeter(w), w.leaf(s["M"]), f"{s['A']} walks", "meters")


def _fence_cost(w: World, s: Slots) -> Node:
    return w.calc("*", _perimeter(w), w.asked("fence price"), "The fence costs", "dollars")


def _cover_cost(w: World, s: Slots) -> Node:
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
    return w.calc("/", stock, cups, f"{s['A']} can make", "batches", whole=True)


KINDS: tuple[Kind, ...] = (
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
    kind("points.add", g.changes("+", POINTS), "{A} scores {n} [|more] points.", "{A} scores {n} points in the [first|next|last] [game|round]."),
    kind("points.sub", g.changes("-", POINTS), "{A} loses {n} points.", "{A} loses {n} points in the [next|last] [game|round]."),
    kind("points.each", g.changes_groups("+", POINTS), "{A} scores {n} points in each of {k} [games|rounds]."),
    kind("points.more", g.compares(POINTS, "+"), "{A} scores {n} more points than {B}."),
    kind("points.fewer", g.compares(POINTS, "-"), "{A} scores {n} fewer points than {B}."),
    kind("points.times", g.multiplies(POINTS), "{A} scores {M} as many points as {B}."),
    kind("points.fraction", g.divides(POINTS), "{A} scores {F} as many points as {B}."),
    kind("points.ask", g.asks(POINTS), "How many points does {A} [score|have][| now| in all]?"),
    kind("points.total", g.asks_total(POINTS, "B"), "How many points do {A} and {B} score [together|in all]?"),
    kind("points.total3", g.asks_total(POINTS, "B", "C"), "How many points do {A}, {B} and {C} score [together|in all]?"),
    kind("points.diff", g.asks_difference(POINTS), "How many more points does {A} score than {B}?"),
    kind("points.average", g.asks_average(POINTS, "B"), "What is the average score of {A} and {B}?"),
    kind("points.average3", g.asks_average(POINTS, "B", "C"), "What is the average score of {A}, {B} and {C}?"),
    kind("points.need", g.asks_needed(POINTS), "How many more points does {A} need to reach {n}?"),
    kind("pages.set", g.states(LEFT), "A [book|story] has {n} pages.", "{A} has a book of {n} pages."),
    kind("pages.read", _reads(False), "{A} reads {n} pages on {D}.", "{A} reads {n} [|more] pages.", "On {D}, {A} reads {n} pages."),
    kind("pages.rate", _reads(True), "{A} reads {n} pages each day for {k} days.", "{A} reads {n} pages an hour for {k} hours."),
    kind("pages.more", g.compares(READ, "+"), "{A} reads {n} more pages than {B}."),
    kind("pages.times", g.multiplies(READ), "{A} reads {M} as many pages as {B}."),
    kind("pages.ask", g.asks(READ), "How many pages does {A} read[| in all]?"),
    kind("pages.total", g.asks_total(READ, "B"), "How many pages do {A} and {B} read [together|in all]?"),
    kind("pages.diff", g.asks_difference(READ), "How many more pages does {A} read than {B}?"),
    kind("pages.left", g.asks(LEFT), "How many pages are left[| to read]?"),
    kind("pages.finish", g.splits(LEFT, "daily pages", "Each day has"), "{A} reads the rest over {k} days, the same number each day."),
    kind("pages.daily", g.asks_key("daily pages"), "How many pages is that each day?"),
    kind("trip.set", g.states(TRIP), "A trip is {n} miles long.", "{A} has a trip of {n} miles."),
    kind("trip.go", _goes(False), "{A} [walks|runs|rides|drives] {n} [|more] miles.", "{A} [walks|runs|rides|drives] {n} miles on {D}."),
    kind("trip.rate", _goes(True), "{A} [rides|drives|runs] at {n} miles an hour for {k} hours.", "{A} [walks|runs|rides|drives] {n} miles each day for {k} days."),
    kind("trip.more", g.compares(WENT, "+"), "{A} [walks|runs|rides|drives] {n} more miles than {B}."),
    kind("trip.times", g.multiplies(WENT), "{A} [walks|runs|rides|drives] {M} as far as {B}."),
    kind("trip.ask", g.asks(WENT), "How many miles does {A} [walk|run|ride|drive|go][| in all]?", "How far does {A} go[| in all]?"),
    kind("trip.total", g.asks_total(WENT, "B"), "How many miles do {A} and {B} go [together|in all]?"),
    kind("trip.diff", g.asks_difference(WENT), "How many more miles does {A} go than {B}?"),
    kind("trip.left", g.asks(TRIP), "How many miles are left[| to go]?"),
    kind("trip.rest", _trip_time, "At {n} miles an hour, how many hours does the rest take?"),
    kind("trip.drive", _drive_time, "{A} drives {n} miles at {m} miles an hour."),
    kind("trip.hours", g.asks_key("hours"), "How many hours does the drive take?"),
    kind("trip.pace", _speed, "{A} drives {n} miles in {k} hours."),
    kind("trip.speed", g.asks_key("speed"), "What is the speed in miles an hour?"),
    kind("heat.set", g.states(HEAT), "The temperature is {n} degrees[| in the morning| at dawn]."),
    kind("heat.add", g.changes("+", HEAT), "It rises by {n} degrees.", "By [noon|evening], it rises by {n} degrees."),
    kind("heat.sub", g.changes("-", HEAT), "It [falls|drops] by {n} degrees.", "By [night|evening], it [falls|drops] by {n} degrees."),
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
    kind("tank.up", g.changes_groups("+", TANK), "A pipe adds {n} liters [each minute for {k} minutes|an hour for {k} hours]."),
    kind("tank.down", g.changes_groups("-", TANK), "{n} liters leak out [each minute for {k} minutes|each hour for {k} hours]."),
    kind("tank.part", g.takes_part(TANK), "{F} of the water leaks out."),
    kind("tank.ask", g.asks(TANK), "How many liters are in the tank [now|in the end]?", "How much water is in the tank now?"),
    kind("tank.need", g.asks_needed(TANK), "If the tank can hold {n} liters, how many more liters fit?"),
    kind("tall.set", g.states(TALL), "A plant is {n} inches tall."),
    kind("tall.add", g.changes("+", TALL), "It grows {n} [|more] inches."),
    kind("tall.sub", g.changes("-", TALL), "{A} cuts {n} inches from the top."),
    kind("tall.up", g.changes_groups("+", TALL), "It grows {n} inches each [week for {k} weeks|day for {k} days]."),
    kind("tall.ask", g.asks(TALL), "How tall is the plant [now|in the end]?"),
    kind("tall.need", g.asks_needed(TALL), "How many more inches must it grow to be {n} inches tall?"),
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
    kind("weight.ask", g.asks(WEIGHT), "How much does the {V} weigh[| now]?", "How many pounds does the {V} weigh[| now]?"),
    kind("weight.total", g.asks_total(WEIGHT, "U"), "How much do the {V} and the {U} weigh [together|in all]?"),
    kind("weight.total3", g.asks_total(WEIGHT, "U", "T"), "How much do the {V}, the {U} and the {T} weigh [together|in all]?"),
    kind("weight.average", g.asks_average(WEIGHT, "U"), "What is the average weight of the {V} and the {U}?"),
    kind("weight.diff", g.asks_difference(WEIGHT, other="U"), "How much more does the {V} weigh than the {U}?"),
    kind("time.spend", _minutes(False), "{A} spends {n} minutes on {Y}."),
    kind("time.rate", _minutes(True), "{A} spends {n} minutes a day on {Y} for {k} days."),
    kind("time.more", _minutes_more("+"), "{A} spends {n} more minutes on {Y} than on {H}."),
    kind("time.fewer", _minutes_more("-"), "{A} spends {n} fewer minutes on {Y} than on {H}."),
    kind("time.times", _minutes_more("*"), "{A} spends {M} as long on {Y} as on {H}."),
    kind("time.ask", g.asks(SPENT), "How many minutes does {A} spend on {Y}[| in all]?"),
    kind("time.all", g.asks(DAY), "How many minutes does {A} spend in all?"),
    kind("time.total", g.asks_total(DAY, "B"), "How many minutes do {A} and {B} spend [together|in all]?"),
    kind("time.diff", g.asks_difference(DAY), "How many more minutes does {A} spend than {B}?"),
    kind("shape.both", _shape, "A {S} is {n} meters long and {m} meters wide."),
    kind("shape.square", _square, "A square {S} has sides of {n} meters."),
    kind("shape.long", lambda w, s: w.state("length", _side(w, s["n"])), "A {S} is {n} meters long."),
    kind("shape.wide", lambda w, s: w.state("width", _side(w, s["n"])), "A {S} is {n} meters wide.", "It is {n} meters wide."),
    kind("shape.longer", _other_side("length", "width", "+"), "Its length is {n} meters more than its width."),
    kind("shape.narrower", _other_side("width", "length", "-"), "Its width is {n} meters less than its length."),
    kind("shape.twice", _other_side("length", "width", "*"), "Its length is {M} its width."),
    kind("shape.round", lambda w, s: _perimeter(w), "What is the perimeter of the {S}?", "How many meters of fence go around the {S}?"),
    kind("shape.area", lambda w, s: _area(w), "What is the area of the {S}[| in square meters]?"),
    kind("shape.laps", _laps, "If {A} walks around it {M}, how many meters is that?"),
    kind("shape.fence", lambda w, s: w.state("fence price", w.leaf(s["d"])), "A fence costs {d} for each meter."),
    kind("shape.fence_ask", _fence_cost, "How much does a fence around the {S} cost?"),
    kind("shape.grass", lambda w, s: w.state("cover price", w.leaf(s["d"])), "Grass costs {d} for each square meter."),
    kind("shape.grass_ask", _cover_cost, "How much does it cost to cover the {S} with grass?"),
    kind("recipe.one", g.states(CUPS), "One batch needs {n} cups of {Z}.", "A recipe needs {n} cups of {Z} for each batch."),
    kind("recipe.two", _recipe_two, "One batch needs {n} cups of {Z} and {m} cups of {W}."),
    kind("recipe.more", g.compares(CUPS, "+", other="W"), "It needs {n} more cups of {Z} than of {W}."),
    kind("recipe.times", g.multiplies(CUPS, other="W"), "It needs {M} as much {Z} as {W}."),
    kind("recipe.make", _batches, "{A} [makes|bakes] {k} batches.", "{A} wants to make {k} batches."),
    kind("recipe.stock", g.states(STOCK), "{A} has {n} cups of {Z}."),
    kind("recipe.buy", g.changes("+", STOCK), "{A} buys {n} more cups of {Z}."),
    kind("recipe.spill", g.changes("-", STOCK), "{A} spills {n} cups of {Z}."),
    kind("recipe.need", _need, "How many cups of {Z} does {A} need[| in all]?"),
    kind("recipe.both", _need_both, "How many cups of {Z} and {W} does {A} need in all?"),
    kind("recipe.short", _need_more, "How many more cups of {Z} does {A} need?"),
    kind("recipe.left", _stock_left, "How many cups of {Z} does {A} have left?"),
    kind("recipe.can", _can_make, "How many batches can {A} make with the {Z}?"),
)
