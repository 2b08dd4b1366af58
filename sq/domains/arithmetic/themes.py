"""What the stories are about: eighteen themes, each a quantity with the phrasings of what can happen to it.

Four of them are held out: neither seeds nor the usual test have them, so that students can be tried out of domain.
"""

from __future__ import annotations

from dataclasses import dataclass

from sq.domains.arithmetic import quantity as q
from sq.domains.arithmetic.grammar import Kind, Role, kind
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


THEMES = (
    Theme(
        "things",
        Quantity("have {A} {I}", "{A} has", "{I}", groups="{G}"),
        {
            "state": ("{A} has {n} {I}.", "{A} starts with {n} {I}."),
            "groups": ("{A} has {k} {G} of {n} {I}.", "{A} has {k} {G} with {n} {I} in each."),
            "add": ("{A} [buys|finds|gets] {n} more {I}.",),
            "sub": ("{A} [loses|sells|uses] {n} {I}.",),
            "up": ("{A} buys {k} {G} of {n} {I}.", "{A} finds {n} {I} a day for {k} days."),
            "down": ("{A} sells {k} {G} of {n} {I}.", "{A} gives {n} {I} to each of {k} {P}."),
            "part": ("{A} [loses|sells|uses] {F} of the {I}.",),
            "give": ("{A} gives {n} {I} to {B}.",),
            "more": ("{A} has {n} more {I} than {B}.",),
            "fewer": ("{A} has {n} fewer {I} than {B}.",),
            "times": ("{A} has {M} as many {I} as {B}.",),
            "fraction": ("{A} has {F} as many {I} as {B}.",),
            "ask": ("How many {I} does {A} have[| now]?",),
            "total": ("How many {I} do {A} and {B} have [together|in all]?",),
            "difference": ("How many more {I} does {A} have than {B}?",),
            "need": ("How many more {I} does {A} need to have {n}?",),
            "share": ("If {A} shares the {I} equally among {k} {P}, how many {I} does each {p} get?",),
            "fill": ("If {A} puts {n} {I} into each of the {G}, how many {G} does {A} fill?",),
        },
    ),
    Theme(
        "money",
        Quantity("money {A}", "{A} has", "dollars"),
        {
            "state": ("{A} has {n} dollars.", "{A} saves {n} dollars."),
            "add": ("{A} earns {n} dollars.", "{A} gets {n} more dollars."),
            "sub": ("{A} spends {n} dollars.", "{A} pays {n} dollars."),
            "up": ("{A} earns {n} dollars a day for {k} days.",),
            "down": ("{A} spends {n} dollars a day for {k} days.", "{A} pays {n} dollars to each of {k} {P}."),
            "part": ("{A} spends {F} of the money.",),
            "give": ("{A} pays {n} dollars to {B}.",),
            "more": ("{A} has {n} dollars more than {B}.",),
            "fewer": ("{A} has {n} dollars less than {B}.",),
            "times": ("{A} has {M} as much money as {B}.",),
            "fraction": ("{A} has {F} as much money as {B}.",),
            "ask": ("How many dollars does {A} have[| now]?", "How much money does {A} have?"),
            "total": ("How many dollars do {A} and {B} have [together|in all]?",),
            "difference": ("How many dollars more does {A} have than {B}?",),
            "need": ("How many more dollars does {A} need to have {n}?",),
            "share": ("If {A} shares the money equally among {k} {P}, how many dollars does each {p} get?",),
        },
    ),
    Theme(
        "points",
        Quantity("points {A}", "{A} has", "points"),
        {
            "state": ("{A} has {n} points.", "{A} starts with {n} points."),
            "add": ("{A} [scores|wins] {n} points.",),
            "sub": ("{A} loses {n} points.",),
            "up": ("{A} [scores|wins] {n} points in each of {k} games.",),
            "down": ("{A} loses {n} points in each of {k} games.",),
            "part": ("{A} loses {F} of the points.",),
            "more": ("{A} has {n} points more than {B}.",),
            "fewer": ("{A} has {n} points less than {B}.",),
            "times": ("{A} has {M} as many points as {B}.",),
            "fraction": ("{A} has {F} as many points as {B}.",),
            "ask": ("How many points does {A} have[| now]?",),
            "total": ("How many points do {A} and {B} have [together|in all]?",),
            "difference": ("How many points more does {A} have than {B}?",),
            "need": ("How many more points does {A} need to reach {n}?",),
        },
    ),
    Theme(
        "reading",
        Quantity("pages {A}", "{A} has", "pages", groups="days"),
        {
            "state": ("{A} has {n} pages to read.", "The book of {A} has {n} pages."),
            "add": ("{A} gets {n} more pages to read.",),
            "sub": ("{A} reads {n} pages.",),
            "down": ("{A} reads {n} pages a day for {k} days.",),
            "part": ("{A} reads {F} of the pages.",),
            "more": ("{A} has {n} pages more to read than {B}.",),
            "fewer": ("{A} has {n} pages less to read than {B}.",),
            "times": ("{A} has {M} as many pages to read as {B}.",),
            "ask": ("How many pages does {A} have to read?", "How many pages are left for {A}?"),
            "total": ("How many pages do {A} and {B} have to read in all?",),
            "fill": ("If {A} reads {n} pages a day, how many days does {A} need?",),
        },
    ),
    Theme(
        "ages",
        Quantity("age {A}", "{A} is", "years old"),
        {
            "state": ("{A} is {n} years old.",),
            "more": ("{A} is {n} years older than {B}.",),
            "fewer": ("{A} is {n} years younger than {B}.",),
            "times": ("{A} is {M} as old as {B}.",),
            "fraction": ("{A} is {F} as old as {B}.",),
            "ask": ("How old is {A}?",),
            "total": ("How many years old are {A} and {B} together?",),
            "difference": ("How many years older is {A} than {B}?",),
            "later": ("How old will {A} be in {n} years?",),
            "earlier": ("How old was {A} {n} years ago?",),
        },
        most_steps=4,
    ),
    Theme(
        "crowd",
        Quantity("crowd {P} {L}", "The {L} has", "{P}", slot="L", other="K", groups="teams"),
        {
            "state": ("There are {n} {P} in the {L}.",),
            "groups": ("There are {k} teams of {n} {P} in the {L}.",),
            "add": ("{n} more {P} [come to|enter] the {L}.",),
            "sub": ("{n} {P} leave the {L}.",),
            "up": ("{k} teams of {n} {P} [come to|enter] the {L}.",),
            "down": ("{k} teams of {n} {P} leave the {L}.",),
            "part": ("{F} of the {P} leave the {L}.",),
            "give": ("{n} {P} go from the {L} to the {K}.",),
            "more": ("There are {n} more {P} in the {L} than in the {K}.",),
            "fewer": ("There are {n} fewer {P} in the {L} than in the {K}.",),
            "times": ("There are {M} as many {P} in the {L} as in the {K}.",),
            "ask": ("How many {P} are [|now ]in the {L}?",),
            "total": ("How many {P} are in the {L} and the {K} together?",),
            "difference": ("How many more {P} are in the {L} than in the {K}?",),
            "fill": ("If the {P} in the {L} form teams of {n}, how many teams are there?",),
        },
    ),
    Theme(
        "bus",
        Quantity("bus {X}", "The {X} bus has", "people", slot="X", other="Q"),
        {
            "state": ("There are {n} people on the {X} bus.", "The {X} bus starts with {n} people."),
            "add": ("{n} people get on the {X} bus.",),
            "sub": ("{n} people get off the {X} bus.",),
            "up": ("{n} people get on the {X} bus at each of {k} stops.",),
            "down": ("{n} people get off the {X} bus at each of {k} stops.",),
            "part": ("{F} of the people get off the {X} bus.",),
            "more": ("There are {n} more people on the {X} bus than on the {Q} bus.",),
            "fewer": ("There are {n} fewer people on the {X} bus than on the {Q} bus.",),
            "times": ("There are {M} as many people on the {X} bus as on the {Q} bus.",),
            "ask": ("How many people are [|now ]on the {X} bus?",),
            "total": ("How many people are on the {X} bus and the {Q} bus together?",),
            "difference": ("How many more people are on the {X} bus than on the {Q} bus?",),
        },
    ),
    Theme(
        "tank",
        Quantity("tank {X}", "The {X} tank holds", "liters", slot="X", other="Q", whole=False),
        {
            "state": ("The {X} tank holds {n} liters.", "There are {n} liters in the {X} tank."),
            "add": ("{n} liters are poured into the {X} tank.",),
            "sub": ("{n} liters leak out of the {X} tank.",),
            "up": ("{n} liters are poured into the {X} tank a day for {k} days.",),
            "down": ("{n} liters leak out of the {X} tank a day for {k} days.",),
            "part": ("{F} of the water leaks out of the {X} tank.",),
            "give": ("{n} liters flow from the {X} tank to the {Q} tank.",),
            "more": ("The {X} tank holds {n} liters more than the {Q} tank.",),
            "fewer": ("The {X} tank holds {n} liters less than the {Q} tank.",),
            "times": ("The {X} tank holds {M} as much as the {Q} tank.",),
            "ask": ("How many liters are [|now ]in the {X} tank?",),
            "total": ("How many liters are in the {X} tank and the {Q} tank together?",),
            "need": ("How many more liters does the {X} tank need to hold {n}?",),
        },
    ),
    Theme(
        "drawer",
        Quantity("drawer {X} {I}", "The {X} drawer has", "{I}", slot="X", other="Q"),
        {
            "state": ("There are {n} {I} in the {X} drawer.", "The {X} drawer has {n} {I}."),
            "groups": ("There are {k} {G} of {n} {I} in the {X} drawer.",),
            "add": ("{A} puts {n} {I} into the {X} drawer.",),
            "sub": ("{A} takes {n} {I} out of the {X} drawer.",),
            "up": ("{A} puts {k} {G} of {n} {I} into the {X} drawer.",),
            "down": ("{A} takes {k} {G} of {n} {I} out of the {X} drawer.",),
            "part": ("{A} takes {F} of the {I} out of the {X} drawer.",),
            "give": ("{A} moves {n} {I} from the {X} drawer to the {Q} drawer.",),
            "more": ("The {X} drawer has {n} more {I} than the {Q} drawer.",),
            "fewer": ("The {X} drawer has {n} fewer {I} than the {Q} drawer.",),
            "times": ("The {X} drawer has {M} as many {I} as the {Q} drawer.",),
            "ask": ("How many {I} are [|now ]in the {X} drawer?",),
            "total": ("How many {I} are in the {X} drawer and the {Q} drawer together?",),
            "difference": ("How many more {I} are in the {X} drawer than in the {Q} drawer?",),
        },
    ),
    Theme(
        "walk",
        Quantity("miles {A}", "{A} is", "miles from home", whole=False, groups="days"),
        {
            "state": ("{A} is {n} miles from home.",),
            "add": ("{A} [walks|drives|runs] {n} miles farther.",),
            "sub": ("{A} [walks|drives|runs] {n} miles back.",),
            "up": ("{A} [walks|drives|runs] {n} miles farther each day for {k} days.",),
            "down": ("{A} [walks|drives|runs] {n} miles back each day for {k} days.",),
            "more": ("{A} is {n} miles farther from home than {B}.",),
            "fewer": ("{A} is {n} miles nearer to home than {B}.",),
            "times": ("{A} is {M} as far from home as {B}.",),
            "ask": ("How many miles is {A} from home[| now]?", "How far is {A} from home?"),
            "difference": ("How many miles farther from home is {A} than {B}?",),
            "fill": ("If {A} walks home {n} miles a day, how many days does {A} need?",),
        },
    ),
    Theme(
        "number",
        Quantity("number {A}", "{A} gets", "", whole=False),
        {
            "state": ("{A} thinks of the number {n}.",),
            "add": ("{A} adds {n}.",),
            "sub": ("{A} takes away {n}.",),
            "mul": ("{A} multiplies by {k}.",),
            "div": ("{A} divides by {k}.",),
            "ask": ("What number does {A} get?", "What is the number of {A} now?"),
        },
    ),
    Theme(
        "shop",
        Quantity("price {I}", "The price is", "dollars", slot="I", other="J"),
        {
            "state": ("Each of the {I} costs {n} dollars.", "The price of one {i} is {n} dollars."),
            "add": ("The price of one {i} rises by {n} dollars.",),
            "sub": ("The price of one {i} falls by {n} dollars.",),
            "more": ("One {i} costs {n} dollars more than one {j}.",),
            "fewer": ("One {i} costs {n} dollars less than one {j}.",),
            "times": ("One {i} costs {M} as much as one {j}.",),
            "ask": ("How many dollars does one {i} cost?",),
            "cost": ("How many dollars do {k} {I} cost?", "How many dollars does {A} pay for {k} {I}?"),
            "rest": ("How many dollars of {n} are left after {A} pays for {k} {I}?",),
            "cost of two": ("How many dollars do {k} {I} and {m} {J} cost?",),
        },
        high=9,
    ),
    Theme(
        "wages",
        Quantity("wage {A}", "{A} earns", "dollars an hour"),
        {
            "state": ("{A} earns {n} dollars an hour.", "The pay of {A} is {n} dollars an hour."),
            "add": ("The pay of {A} rises by {n} dollars an hour.",),
            "sub": ("The pay of {A} falls by {n} dollars an hour.",),
            "more": ("{A} earns {n} dollars an hour more than {B}.",),
            "fewer": ("{A} earns {n} dollars an hour less than {B}.",),
            "times": ("{A} earns {M} as much an hour as {B}.",),
            "ask": ("How many dollars an hour does {A} earn?",),
            "cost": ("How many dollars does {A} earn in {k} hours?",),
            "cost of two": ("How many dollars do {A} in {k} hours and {B} in {m} hours earn?",),
        },
        high=9,
    ),
    Theme(
        "shape",
        LENGTH,
        {
            "sides": ("The {S} is {n} meters long and {m} meters wide.",),
            "add": ("The {S} grows longer by {n} meters.",),
            "sub": ("The {S} grows shorter by {n} meters.",),
            "wider": ("The {S} grows wider by {n} meters.",),
            "narrower": ("The {S} grows narrower by {n} meters.",),
            "area": ("What is the area of the {S}?",),
            "perimeter": ("What is the distance around the {S}?", "How many meters long is a fence around the {S}?"),
        },
        high=12,
    ),
    Theme(
        "weight",
        Quantity("weight {V}", "The {V} weighs", "pounds", slot="V", other="U", whole=False),
        {
            "state": ("The {V} weighs {n} pounds.",),
            "add": ("The {V} gains {n} pounds.",),
            "sub": ("The {V} loses {n} pounds.",),
            "up": ("The {V} gains {n} pounds a day for {k} days.",),
            "down": ("The {V} loses {n} pounds a day for {k} days.",),
            "more": ("The {V} weighs {n} pounds more than the {U}.",),
            "fewer": ("The {V} weighs {n} pounds less than the {U}.",),
            "times": ("The {V} weighs {M} as much as the {U}.",),
            "ask": ("How many pounds does the {V} weigh[| now]?",),
            "total": ("How many pounds do the {V} and the {U} weigh together?",),
            "difference": ("How many pounds more does the {V} weigh than the {U}?",),
        },
        held_out=True,
    ),
    Theme(
        "rope",
        Quantity("rope {X}", "The {X} rope is", "inches long", slot="X", other="Q", whole=False, groups="pieces"),
        {
            "state": ("The {X} rope is {n} inches long.",),
            "add": ("{n} inches are tied to the {X} rope.",),
            "sub": ("{n} inches are cut off the {X} rope.",),
            "down": ("{k} pieces of {n} inches are cut off the {X} rope.",),
            "part": ("{F} of the {X} rope is cut off.",),
            "more": ("The {X} rope is {n} inches longer than the {Q} rope.",),
            "fewer": ("The {X} rope is {n} inches shorter than the {Q} rope.",),
            "times": ("The {X} rope is {M} as long as the {Q} rope.",),
            "ask": ("How many inches long is the {X} rope[| now]?",),
            "total": ("How many inches long are the {X} rope and the {Q} rope together?",),
            "fill": ("If the {X} rope is cut into pieces of {n} inches, how many pieces are there?",),
        },
        held_out=True,
    ),
    Theme(
        "kitchen",
        Quantity("flour {N}", "One {N} needs", "cups of flour", slot="N", other="O", whole=False),
        {
            "state": ("One {N} needs {n} cups of flour.", "A serving of {N} needs {n} cups of flour."),
            "more": ("One {N} needs {n} cups of flour more than one {O}.",),
            "fewer": ("One {N} needs {n} cups of flour less than one {O}.",),
            "times": ("One {N} needs {M} as much flour as one {O}.",),
            "ask": ("How many cups of flour does one {N} need?",),
            "cost": ("How many cups of flour does {A} need for {k} servings of {N}?",),
            "rest": ("How many of {n} cups of flour are left after {A} makes {k} servings of {N}?",),
        },
        high=9,
        most_steps=4,
        held_out=True,
    ),
    Theme(
        "team",
        Quantity("team {X}", "The {X} team has", "goals", slot="X", other="Q"),
        {
            "state": ("The {X} team has {n} goals.",),
            "add": ("The {X} team shoots {n} goals.",),
            "up": ("The {X} team shoots {n} goals in each of {k} games.",),
            "more": ("The {X} team has {n} goals more than the {Q} team.",),
            "fewer": ("The {X} team has {n} goals less than the {Q} team.",),
            "times": ("The {X} team has {M} as many goals as the {Q} team.",),
            "ask": ("How many goals does the {X} team have[| now]?",),
            "total": ("How many goals do the {X} team and the {Q} team have together?",),
            "difference": ("How many goals more does the {X} team have than the {Q} team?",),
        },
        held_out=True,
    ),
)
KINDS: dict[str, tuple[Kind, ...]] = {
    theme.name: tuple(kind(theme.name, ROLES[role], theme.quantity, texts) for role, texts in theme.phrases.items())
    for theme in THEMES
}
"""Theme -> its kinds of sentence."""
ALL_KINDS = tuple(each for kinds in KINDS.values() for each in kinds)
