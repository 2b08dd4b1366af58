"""Families in which one quantity is stated, changed a few times, and asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sq.domains.arithmetic.lexicon import FOODS
from sq.domains.arithmetic.story import RetryError, Story

Extra = dict[str, Any]
COST = {
    "add": 1,
    "sub": 1,
    "mul": 1,
    "div": 1,
    "both": 2,
    "swap": 2,
    "gain2": 2,
    "loss2": 2,
    "up": 2,
    "down": 2,
    "part": 2,
}


@dataclass(frozen=True)
class Chain:
    """`start` and `events` map a sentence kind to the sort of number it takes; `ends` a kind to its cost in steps.

    An end is a sequence of kinds (a statement and the question, or the question alone).
    """

    key: str
    start: dict[str, str]
    events: dict[str, str]
    ends: dict[tuple[str, ...], int]
    slots: Callable[[Story], Extra] = field(default=lambda st: {"A": st.names(1)[0]})
    high: int = 60


def write_chain(chain: Chain, st: Story, steps: int) -> None:
    """Write a question of the chain that needs `steps` steps (its caller checks that it does)."""
    s = chain.slots(st)
    ends = [end for end, cost in chain.ends.items() if cost <= steps]
    end = st.choose(ends)
    budget = steps - chain.ends[end]
    start = st.choose([name for name, sort in chain.start.items() if sort != "groups" or budget >= 1])
    write_start(st, start, chain.start[start], chain.high, s)
    key = chain.key.format_map(s)
    while (left := budget - st.steps(key)) > 0:
        name, sort = _choose_event(chain, st, left, s)
        write_event(st, name, sort, st.value(key), s)
    for name in end:
        write_end(st, name, st.value(key), s)


def _choose_event(chain: Chain, st: Story, left: int, s: Extra) -> tuple[str, str]:
    """An event that `left` steps can pay for; the first of the chain is what the family is about."""
    options = [(name, sort) for name, sort in chain.events.items() if COST[sort] <= left]
    if options and options[0][0] == next(iter(chain.events)) and st.rng.random() < 0.3:
        return options[0]
    return st.choose([option for option in options if option[0] != "have.eat" or s["I"] in FOODS])


def write_start(st: Story, name: str, sort: str, high: int, s: Extra) -> None:
    """The opening statement: a number, or some groups of a number."""
    if sort == "groups":
        n, k = product(st, 100)
        st.add_sentence(name, n=n, k=k, **st.days(), **s)
    else:
        st.add_sentence(name, n=st.number(3, high), **st.days(), **s)


def write_event(st: Story, name: str, sort: str, now: int, s: Extra) -> None:
    """One event, with a number that fits what there is now."""
    day = st.days()
    if sort == "add":
        st.add_sentence(name, n=st.number(2, min(40, 100 - now)), **s, **day)
    elif sort == "sub":
        least = 1 if now < 4 and name.startswith("have") else 2
        st.add_sentence(name, n=st.number(least, min(40, now - 1)), **s, **day)
    elif sort in ("both", "swap", "gain2", "loss2"):
        _write_double_event(st, name, sort, now, {**s, **day})
    elif sort in ("up", "down"):
        n, k = product(st, 100 - now if sort == "up" else now - 1)
        st.add_sentence(name, n=n, k=k, **s, **day)
    elif sort == "part":
        bottom = st.choose([d for d in (2, 3, 4, 5) if now % d == 0 and now > d])
        st.add_sentence(name, F=(1, bottom), **s)
    elif sort == "mul":
        st.add_sentence(name, n=st.choose([d for d in range(2, 11) if d * now <= 100 and (now <= 10 or d <= 3)]), **s)
    else:
        st.add_sentence(name, n=divisor(st, now), **s)


def _write_double_event(st: Story, name: str, sort: str, now: int, s: Extra) -> None:
    """Two events in one sentence: down and up, up and down, up twice, down twice."""
    rises = sort in ("swap", "gain2")
    n = st.number(2, min(40, 99 - now if rises else now - 1))
    now = now + n if rises else now - n
    rises = sort in ("both", "gain2")
    m = st.number(2, min(40, 99 - now if rises else now - 1))
    st.add_sentence(name, n=n, m=m, d=n, e=m, **s)


def write_end(st: Story, name: str, now: int, s: Extra) -> None:
    """The last sentences; some bring a number of their own."""
    if name.endswith((".need", ".seats", ".goal")):
        st.add_sentence(name, n=st.number(now + 2, min(100, now + 50)), **s)
    elif name in ("share.do", "team.into", "rope.cut", "split.money", "pages.finish"):
        st.add_sentence(name, k=divisor(st, now), **s)
    elif name in ("pack.do", "team.of", "trip.rest"):
        st.add_sentence(name, n=divisor(st, now), **s)
    elif name == "money.weeks":
        short = st.value(f"goal {s['A']}") - now
        st.add_sentence(name, n=divisor(st, short), **s)
    else:
        st.add_sentence(name, **s)


def divisor(st: Story, value: int) -> int:
    return st.choose([d for d in range(2, 11) if value % d == 0 and value // d > 1 and (value // d <= 10 or d <= 3)])


def product(st: Story, limit: int) -> tuple[int, int]:
    """Two factors from the tables whose product is at most `limit`."""
    if limit < 4:
        raise RetryError
    n = st.number(2, min(10, limit // 2))
    return n, st.number(2, min(10, limit // n))
