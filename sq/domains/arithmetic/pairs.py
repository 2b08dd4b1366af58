"""Families in which two or three quantities are compared, then asked for, added up or averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sq.domains.arithmetic.chains import Extra, write_event, write_start
from sq.domains.arithmetic.lexicon import ANIMALS, MAKES, MOVES, TASKS
from sq.domains.arithmetic.story import RetryError, Story


@dataclass(frozen=True)
class Pair:
    """`roles` are the slots of who is compared: the first states or is compared, the others follow.

    `ends` maps a question kind to (how many quantities it takes, its cost in steps).
    """

    key: str
    start: dict[str, str]
    relations: tuple[str, ...]
    ends: dict[str, tuple[int, int]]
    events: dict[str, str] = field(default_factory=dict)
    roles: tuple[str, str, str] = ("A", "B", "C")
    low: int = 1
    high: int = 6
    top: int = 40
    cast: Callable[[Story], tuple[list[str], Extra]] = field(default=lambda st: (st.names(3), {}))


def write_pair(pair: Pair, st: Story, steps: int) -> None:
    """State one, relate a second (and a third) to it, perhaps change one, ask."""
    who, extra = pair.cast(st)
    name = st.choose([n for n, (_, cost) in pair.ends.items() if cost + 1 <= steps])
    count, cost = pair.ends[name]
    relations = max(1, count - 1)
    spare = steps - cost - relations
    if count < 3 and spare and (not pair.events or st.rng.random() < 0.4):
        relations, spare = relations + 1, spare - 1
    if relations > 2 or spare < 0 or (spare and not pair.events):
        raise RetryError
    mine, yours, third = pair.roles
    groups = [n for n, sort in pair.start.items() if sort == "groups" and spare]
    if groups and st.rng.random() < 0.3:
        start, spare = st.choose(groups), spare - 1
    else:
        start = st.choose([n for n, sort in pair.start.items() if sort == "n"])
    write_start(st, start, pair.start[start], pair.top, {**extra, mine: who[0]})
    if st.rng.random() < 0.5:
        spare = _maybe_change(pair, st, who[:1], extra, spare)
    changed = len(st.sentences) > 1
    for i in range(relations):
        other = who[0] if i == 0 or st.rng.random() < 0.3 else who[1]
        write_comparison(
            st, st.choose(pair.relations), _value(pair, st, other, extra), {**extra, mine: who[i + 1], yours: other}
        )
    if spare == 0 and not changed and st.rng.random() < 0.25:
        st.sentences[0], st.sentences[1] = st.sentences[1], st.sentences[0]
    while spare:
        spare = _maybe_change(pair, st, who[: relations + 1], extra, spare)
    _ask(pair, st, name, count, who[: relations + 1], extra)


def write_comparison(st: Story, name: str, base: int, slots: Extra) -> None:
    """A comparison with a number that fits."""
    if name.endswith((".times", ".twice")):
        st.add_sentence(
            name, M=st.choose([m for m in range(2, 11) if m * base <= 100 and (base <= 10 or m <= 3)]), **slots
        )
    elif name.endswith(".fraction"):
        st.add_sentence(name, F=(1, st.choose([d for d in (2, 3, 4, 5) if base % d == 0 and base > d])), **slots)
    elif name.endswith((".fewer", ".less")):
        st.add_sentence(name, n=st.number(2, min(30, base - 1)), **slots)
    else:
        st.add_sentence(name, n=st.number(2, min(30, 100 - base)), **slots)


def _value(pair: Pair, st: Story, who: str, extra: Extra) -> int:
    return st.value(pair.key.format_map({**extra, pair.roles[0]: who}))


def _maybe_change(pair: Pair, st: Story, who: list[str], extra: Extra, spare: int) -> int:
    """One event that costs one step, if one is left."""
    if not spare:
        return 0
    changed = st.choose(who)
    name = st.choose(list(pair.events))
    write_event(st, name, pair.events[name], _value(pair, st, changed, extra), {**extra, pair.roles[0]: changed})
    return spare - 1


def _ask(pair: Pair, st: Story, name: str, count: int, who: list[str], extra: Extra) -> None:
    mine, yours, third = pair.roles
    if count == 1:
        slots = {**extra, mine: who[-1]}
        if name in ("age.later", "age.ago"):
            age = _value(pair, st, who[-1], extra)
            slots["n"] = st.number(2, 20) if name == "age.later" else st.number(1, min(20, age - 1))
        st.add_sentence(name, **slots)
        return
    asked = who if count == len(who) else [who[-1], st.choose(who[:-1])]
    if name.endswith((".diff", ".less")):
        order = sorted(asked, key=lambda one: _value(pair, st, one, extra), reverse=name.endswith(".diff"))
        if _value(pair, st, order[0], extra) == _value(pair, st, order[1], extra):
            raise RetryError
        asked = order
    st.add_sentence(name, **extra, **dict(zip((mine, yours, third), asked, strict=False)))


def _item(st: Story) -> tuple[list[str], Extra]:
    return st.names(3), {"I": st.item(), "G": "bags", "K": st.choose(tuple(MAKES))}


def _animals(st: Story) -> tuple[list[str], Extra]:
    return st.rng.sample(ANIMALS, 3), {}


def _tasks(st: Story) -> tuple[list[str], Extra]:
    return st.rng.sample(TASKS, 3), {"A": st.names(1)[0]}


def _ends(theme: str, *, third: bool = False, average: bool = False, plain: bool = True) -> dict[str, tuple[int, int]]:
    ends = {f"{theme}.total": (2, 1), f"{theme}.diff": (2, 1)}
    if plain:
        ends[f"{theme}.ask"] = (1, 0)
    if third:
        ends[f"{theme}.total3"] = (3, 2)
    if average:
        ends |= {f"{theme}.average": (2, 2), f"{theme}.average3": (3, 3)}
    return ends


PAIRS: dict[str, Pair] = {
    "comparison": Pair(
        "have {A} {I}",
        {"have.set": "n", "have.groups": "groups"},
        ("have.more", "have.fewer"),
        {**_ends("have", third=True), "have.less": (2, 1)},
        {"have.add": "add", "have.sub": "sub"},
        cast=_item,
    ),
    "times as many": Pair(
        "have {A} {I}",
        {"have.set": "n", "have.groups": "groups"},
        ("have.times", "have.fraction", "have.more"),
        _ends("have", third=True),
        {"have.add": "add", "have.sub": "sub"},
        top=30,
        cast=_item,
    ),
    "averages": Pair(
        "have {A} {I}",
        {"have.set": "n"},
        ("have.more", "have.fewer", "have.times"),
        {"have.average": (2, 2), "have.average3": (3, 3)},
        {"have.add": "add", "have.sub": "sub"},
        low=3,
        top=30,
        cast=_item,
    ),
    "ages": Pair(
        "age {A}",
        {"age.set": "n"},
        ("age.more", "age.less", "age.times", "age.fraction"),
        {**_ends("age", third=True, average=True), "age.later": (1, 1), "age.ago": (1, 1)},
        high=4,
        top=30,
    ),
    "scores": Pair(
        "points {A}",
        {"points.first": "n", "points.each": "groups"},
        ("points.more", "points.fewer", "points.times", "points.fraction"),
        _ends("points", third=True, average=True),
        high=4,
    ),
    "more money": Pair(
        "money {A}",
        {"money.set": "n"},
        ("money.more", "money.less", "money.times", "money.fraction"),
        _ends("money"),
        {"money.earn": "add", "money.gift": "add", "money.spend": "sub"},
        cast=lambda st: (st.names(3), {"I": st.item()}),
    ),
    "earning more": Pair(
        "earned {A}",
        {"money.first": "n", "money.wage": "groups"},
        ("earned.more", "earned.times"),
        _ends("earned"),
        high=3,
    ),
    "spending more": Pair(
        "spent {A}",
        {"money.spend": "n", "money.buy": "groups"},
        ("spent.more", "spent.times"),
        _ends("spent"),
        high=3,
        cast=_item,
    ),
    "making more": Pair(
        "made {A} {I} {K}",
        {"made.day": "n", "made.rate": "groups"},
        ("made.more", "made.fewer", "made.times"),
        _ends("made"),
        high=3,
        cast=_item,
    ),
    "reading more": Pair(
        "read {A}", {"pages.first": "n", "pages.rate": "groups"}, ("pages.more", "pages.times"), _ends("pages"), high=3
    ),
    "going farther": Pair(
        "went {A} {O}",
        {"trip.first": "n", "trip.rate": "groups"},
        ("trip.more", "trip.times"),
        _ends("trip"),
        high=3,
        cast=lambda st: (st.names(3), {"O": st.choose(tuple(MOVES))}),
    ),
    "weights": Pair(
        "weight {V}",
        {"weight.set": "n"},
        ("weight.more", "weight.less", "weight.times", "weight.fraction"),
        {**_ends("weight", third=True), "weight.average": (2, 2)},
        {"weight.gain": "add", "weight.lose": "sub"},
        roles=("V", "U", "T"),
        cast=_animals,
    ),
    "minutes": Pair(
        "minutes {A} {Y}",
        {"time.spend": "n", "time.rate": "groups"},
        ("time.more", "time.fewer", "time.times"),
        {"time.ask": (1, 0)},
        roles=("Y", "H", "H"),
        high=2,
        cast=_tasks,
    ),
}
