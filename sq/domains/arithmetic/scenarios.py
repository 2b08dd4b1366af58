"""Families with a shape of their own: rectangles, recipes, fractions of a pizza, mixtures, ratios."""

from __future__ import annotations

from collections.abc import Callable

from sq.domains.arithmetic.chains import divisor, product, write_event
from sq.domains.arithmetic.lexicon import COLOURS, CONTAINERS, DISHES, MOVES, PEOPLE, SHAPES, STUFFS
from sq.domains.arithmetic.money_scenarios import afford, prices, shopping, splitting
from sq.domains.arithmetic.pairs import write_comparison
from sq.domains.arithmetic.story import RetryError, Story

PUPILS = ("students", "children", "players", "dancers", "singers", "campers")
GROUNDS = ("garden", "yard", "field", "lawn", "farm")


def rectangle(st: Story, steps: int) -> None:
    """Perimeter and area, perhaps with one side told through the other, and what a fence or grass costs."""
    name = st.names(1)[0]
    ends = {"round": 2, "area": 1, "laps": 3, "fence": 3, "grass": 2}
    end = st.choose([e for e, cost in ends.items() if steps - 1 <= cost <= steps])
    related = steps - ends[end] == 1
    small = end in ("grass", "laps", "fence")
    shape = st.choose(GROUNDS if small else SHAPES)
    if related:
        _related_sides(st, shape, small)
    elif st.rng.random() < 0.2:
        st.add_sentence("shape.square", S=shape, n=st.number(2, 5 if small else 10))
    else:
        wide = st.number(2, 5 if small else 9)
        st.add_sentence("shape.both", S=shape, n=st.number(wide + 1, 6 if small else 10), m=wide)
    if end == "fence":
        st.add_sentence("shape.fence", n=st.number(2, 6))
    elif end == "grass":
        st.add_sentence("shape.grass", n=st.number(2, 6))
    if end == "laps":
        st.add_sentence("shape.laps", A=name, M=st.number(2, 5))
    else:
        st.add_sentence(f"shape.{end}_ask" if end in ("fence", "grass") else f"shape.{end}", S=shape)


def _related_sides(st: Story, shape: str, small: bool) -> None:
    kind = st.choose(["longer", "narrower", "twice"])
    if kind == "narrower":
        long = st.number(4, 6 if small else 20)
        st.add_sentence("shape.long", S=shape, n=long)
        st.add_sentence("shape.narrower", n=st.number(1 + (long > 12), long - 2))
        return
    wide = st.number(2, 4 if small else 10)
    st.add_sentence("shape.wide", S=shape, n=wide)
    if kind == "longer":
        st.add_sentence("shape.longer", n=st.number(2, 4 if small else 12))
    else:
        st.add_sentence("shape.twice", M=st.number(2, 3))


def recipe(st: Story, steps: int) -> None:
    """Cups for several batches: needed, missing, left over, or how many batches there is enough for."""
    name = st.names(1)[0]
    z, w = st.rng.sample(STUFFS, 2)
    cups = st.number(2, 6)
    related = steps >= 2 and st.rng.random() < 0.4
    both = steps - related >= 3 and st.rng.random() < 0.4
    if related:
        st.add_sentence("recipe.one", Z=w, n=cups)
        write_comparison(st, st.choose(["recipe.more", "recipe.times"]), cups, {"Z": z, "W": w})
    elif both:
        st.add_sentence("recipe.two", Z=z, W=w, n=cups, m=st.number(2, 6))
    else:
        st.add_sentence("recipe.one", Z=z, n=cups)
    spare = steps - related
    if both:
        st.add_sentence("recipe.make", A=name, k=st.number(2, 9))
        st.add_sentence("recipe.both", A=name, Z=z, W=w)
        return
    if spare == 1 and st.rng.random() < 0.7:
        st.add_sentence("recipe.make", A=name, k=st.number(2, 10))
        st.add_sentence("recipe.need", A=name, Z=z)
        return
    _recipe_stock(st, name, z, spare)


def _recipe_stock(st: Story, name: str, z: str, spare: int) -> None:
    cups, end = st.value(f"cups {z}"), st.choose(["recipe.short", "recipe.left", "recipe.can"])
    cost = 1 if end == "recipe.can" else 2
    batches = st.number(2, 9)
    goal = cups * batches
    low, high = {"recipe.short": (1, goal - 1), "recipe.left": (goal + 1, 100), "recipe.can": (goal, goal)}[end]
    final = st.number(max(1, low), high)
    stock, slots = [final], {"A": name, "Z": z}
    events = []
    for _ in range(spare - cost):
        now = stock[-1]
        if st.rng.random() < 0.5 and now > 6:
            events.append(("recipe.buy", st.number(2, now - 3)))
            stock.append(now - events[-1][1])
        else:
            events.append(("recipe.spill", st.number(2, min(20, 100 - now))))
            stock.append(now + events[-1][1])
    if stock[-1] < 2:
        raise RetryError
    if cost == 2:
        st.add_sentence("recipe.make", A=name, k=batches)
    st.add_sentence("recipe.stock", n=stock[-1], **slots)
    for kind, n in reversed(events):
        st.add_sentence(kind, n=n, **slots)
    st.add_sentence(end, **slots)


def pizza(st: Story, steps: int) -> None:
    """Slices eaten, and what fraction is left: answers such as 3/8."""
    who = st.names(3)
    size = st.choose([6, 8, 9, 10, 12, 16, 20])
    dish = st.choose(DISHES)
    st.add_sentence("pizza.cut", n=size, N=dish)
    ends = {"pizza.left": 0, "pizza.part_left": 1, "pizza.part": 1, "pizza.part2": 2, "pizza.total": 1}
    if steps > 3:
        del ends["pizza.part"]
    end = st.choose([name for name, cost in ends.items() if cost <= steps])
    st.add_sentence("pizza.eat", A=who[0], n=st.number(1, size // 3))
    related = 0
    wanted = max(0, steps - ends[end] - (1 if end in ("pizza.left", "pizza.part_left") else 0))
    for i in (1, 2):
        mean = end in ("pizza.part", "pizza.part2", "pizza.total") or wanted > 1
        if wanted > related and mean:
            base = st.value(f"eaten {who[i - 1]}")
            if st.rng.random() < 0.6:
                st.add_sentence("pizza.more", A=who[i], B=who[i - 1], n=st.number(1, max(1, size // 4)))
            else:
                st.add_sentence("pizza.times", A=who[i], B=who[i - 1], M=st.number(2, max(2, size // (2 * base))))
            related += 1 if mean and end not in ("pizza.left", "pizza.part_left") else 2
        elif wanted > related or (i == 1 and end in ("pizza.part2", "pizza.total")):
            st.add_sentence("pizza.eat", A=who[i], n=st.number(1, size // 3))
            related += end in ("pizza.left", "pizza.part_left")
    eaters = {"A": who[1] if end == "pizza.part" and related else who[0], "B": who[1], "N": dish}
    if end == "pizza.part2" and related == 2:
        eaters |= {"A": who[2]}
    st.add_sentence(end, **eaters)


def colours(st: Story, steps: int) -> None:
    """A bag of two or three colours: how many in all, or what fraction is red."""
    item, x = st.thing(), st.rng.sample(COLOURS, 3)
    slots = {"A": st.names(1)[0], "I": item, "G": st.choose(CONTAINERS)}
    fraction = 2 <= steps <= 5 and st.rng.random() < 0.5
    spare = steps - 1 - fraction
    three = spare >= 1 and st.rng.random() < 0.6
    spare -= three
    related = min(spare, st.choose([0, 1, 1 + three]))
    top = 7 if fraction else 30
    if related < 1 + three:
        st.add_sentence("hue.two", n=st.number(2, top), m=st.number(2, top), X=x[0], Q=x[1], **slots)
        known = 2
    else:
        st.add_sentence("hue.one", n=st.number(2, top), X=x[0], **slots)
        known = 1
    for i in range(known, 2 + three):
        if related:
            base = st.value(f"hue {item} {x[i - 1]}")
            write_comparison(
                st, st.choose(["hue.more", "hue.fewer", "hue.times"]), base, {"I": item, "X": x[i], "Q": x[i - 1]}
            )
            related, spare = related - 1, spare - 1
        else:
            st.add_sentence("hue.also", n=st.number(2, top), X=x[i], **slots)
    for _ in range(spare):
        hue = st.choose(x[: 2 + three])
        kind, sort = st.choose([("hue.add", "add"), ("hue.sub", "sub")])
        write_event(st, kind, sort, st.value(f"hue {item} {hue}"), {**slots, "X": hue})
    st.add_sentence("hue.fraction" if fraction else "hue.all", X=x[0], **slots)


def ratio(st: Story, steps: int) -> None:
    """For every 2 apples, Tom has 3 pears."""
    name = st.names(1)[0]
    i, j = st.item(), st.item()
    if i == j:
        raise RetryError
    n, m = st.number(2, 9), st.number(2, 9)
    slots = {"A": name, "I": i}
    if steps > 2 and st.rng.random() < 0.4:
        each, count = product(st, 90)
        st.add_sentence("have.groups", n=each, k=count, G=st.choose(CONTAINERS), **slots)
    else:
        st.add_sentence("have.set", n=n * st.number(2, 9), **slots)
    key = f"have {name} {i}"
    while st.steps(key) + 2 < steps and st.rng.random() < 0.7:
        kind, sort = st.choose([("have.add", "add"), ("have.sub", "sub")])
        write_event(st, kind, sort, st.value(key), slots)
    st.add_sentence("ratio.do", n=divisor(st, st.value(key)), m=m, J=j, **slots)
    mine = {"A": name, "I": j}
    key = f"have {name} {j}"
    while st.steps(key) < steps:
        kind, sort = st.choose([("have.add", "add"), ("have.sub", "sub")])
        write_event(st, kind, sort, st.value(key), mine)
    st.add_sentence("have.ask", **mine)


def pooling(st: Story, steps: int) -> None:
    """Two put theirs together, then share or pack them."""
    a, b = st.names(2)
    item, people, boxes = st.item(), st.choose(PEOPLE), st.choose(CONTAINERS)
    for who in (a, b):
        _stated(st, who, item, steps)
    for _ in range(max(0, steps - 2)):
        if st.steps(f"have {a} {item}") + st.steps(f"have {b} {item}") + 2 >= steps:
            break
        who = st.choose([a, b])
        kind, sort = st.choose([("have.add", "add"), ("have.sub", "sub")])
        write_event(st, kind, sort, st.value(f"have {who} {item}"), {"A": who, "I": item, "G": boxes})
    st.add_sentence("pool.do", A=a, B=b, I=item)
    total = st.value(f"pool {item}")
    if st.rng.random() < 0.5:
        st.add_sentence("pool.share", I=item, P=people, k=divisor(st, total))
        st.add_sentence("share.ask", I=item, P=people)
    else:
        st.add_sentence("pool.pack", I=item, G=boxes, n=divisor(st, total))
        st.add_sentence("pool.ask", G=boxes)


def _stated(st: Story, who: str, item: str, steps: int) -> None:
    if steps > 3 and st.rng.random() < 0.4:
        n, k = product(st, 50)
        st.add_sentence("have.groups", A=who, I=item, n=n, k=k, G=st.choose(CONTAINERS))
    else:
        st.add_sentence("have.set", A=who, I=item, n=st.number(3, 50))


def girls_and_boys(st: Story, steps: int) -> None:
    """A part of the students are girls."""
    slots = {"P": st.choose(PUPILS), "L": st.choose(("park", "gym", "hall", "camp", "club"))}
    boys = steps >= 2 and st.rng.random() < 0.7
    if st.rng.random() < 0.4:
        n, k = product(st, 100)
        st.add_sentence("crowd.groups", n=n, k=k, **slots)
    else:
        st.add_sentence("crowd.set", n=st.number(6, 90), **slots)
    key = f"crowd {slots['P']}"
    while (left := steps - 1 - boys - st.steps(key)) > 0:
        kind, sort = st.choose([("crowd.add", "add"), ("crowd.sub", "sub")])
        write_event(st, kind, sort, st.value(key), slots)
        if left < 1:
            raise RetryError
    total = st.value(key)
    st.add_sentence("crowd.girls", F=(1, st.choose([d for d in (2, 3, 4, 5) if total % d == 0])), **slots)
    st.add_sentence("crowd.boys_ask" if boys else "crowd.girls_ask", **slots)


def driving(st: Story, steps: int) -> None:
    """Speed from distance and time, time from distance and speed; then a rest, or a faster way back."""
    name, verb = st.names(1)[0], st.choose(tuple(MOVES))
    n, k = product(st, 100)
    if st.rng.random() < 0.5:
        st.add_sentence("trip.drive", A=name, O=verb, n=n * k, m=k)
        if steps == 2:
            st.add_sentence("trip.stop", A=name, n=st.number(2, 9))
        st.add_sentence("trip.hours")
    else:
        st.add_sentence("trip.pace", A=name, O=verb, n=n * k, k=k)
        if steps == 2:
            st.add_sentence("trip.faster", A=name, n=st.number(2, 9))
        st.add_sentence("trip.speed")


SCENARIOS: dict[str, tuple[int, int, Callable[[Story, int], None]]] = {
    "shopping": (1, 5, shopping),
    "prices": (1, 4, prices),
    "how many to buy": (1, 6, afford),
    "rectangles": (1, 4, rectangle),
    "recipes": (1, 6, recipe),
    "pizza": (1, 4, pizza),
    "colours": (1, 6, colours),
    "ratio": (2, 6, ratio),
    "pooling": (2, 6, pooling),
    "splitting": (1, 6, splitting),
    "girls and boys": (1, 6, girls_and_boys),
    "driving": (1, 2, driving),
}
