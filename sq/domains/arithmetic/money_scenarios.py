"""Families about money with a shape of their own: shopping, prices, what can be bought, a sum split in two."""

from __future__ import annotations

from sq.domains.arithmetic.chains import product, write_event
from sq.domains.arithmetic.lexicon import PEOPLE
from sq.domains.arithmetic.pairs import write_comparison
from sq.domains.arithmetic.story import RetryError, Story

WARES = tuple("pens hats toys mugs balls apples kites pencils dolls rolls candles caps".split())


def shopping(st: Story, steps: int) -> None:
    """Prices, perhaps one told through another; what a purchase costs, the change, what is left."""
    name = st.names(1)[0]
    i, j = st.rng.sample(WARES, 2)
    two = steps >= 3
    done = 3 if two else 1
    relation = steps > done and st.rng.random() < 0.6
    end = st.choose(["left", "change"]) if steps > done + relation and st.rng.random() < 0.8 else "spent"
    done += relation + (end != "spent") + (end == "left" and two)
    coupon = steps > done
    low = st.number(2, 9)
    if end == "left":
        st.add_sentence("money.set", A=name, n=st.number(40, 100))
    st.add_sentence("price.set", n=low, I=j)
    if two and relation:
        write_comparison(st, st.choose(["price.more", "price.less", "price.times"]), low, {"I": i, "J": j})
    elif two:
        st.add_sentence("price.set", n=st.number(2, 9), I=i)
    elif relation:
        raise RetryError
    if two and done == steps and end == "spent" and st.rng.random() < 0.4:
        st.add_sentence("price.lines", n=st.number(2, 6), m=st.number(2, 6), I=i, J=j)
        return
    if two:
        st.add_sentence("shop.two", A=name, n=st.number(2, 6), m=st.number(2, 6), I=i, J=j)
    else:
        st.add_sentence("shop.buy", A=name, n=st.number(2, 9), I=j)
    if coupon:
        st.add_sentence("shop.coupon", A=name, n=st.number(2, 6))
    if end == "change":
        spent = st.value(f"spent {name}")
        st.add_sentence("shop.pay", A=name, n=st.choose([n for n in (10, 20, 30, 40, 50, 60, 80, 100) if n > spent]))
    st.add_sentence({"spent": "spent.ask", "left": "money.ask", "change": "shop.change"}[end], A=name)


def prices(st: Story, steps: int) -> None:
    """The price of one from the price of several, or through other prices."""
    items = st.rng.sample(WARES, 4)
    name = st.names(1)[0]
    if st.rng.random() < 0.5:
        each, count = product(st, 100)
        st.add_sentence("price.pays", A=name, n=count, d=each * count, I=items[0])
        done = 1
    else:
        st.add_sentence("price.set", n=st.number(2, 20), I=items[0])
        done = 0
    if steps > 1 and st.rng.random() < 0.4:
        kind = st.choose(["price.up", "price.down"])
        st.add_sentence(kind, n=st.number(1, min(9, st.value(f"price {items[0]}") - 1)), I=items[0])
        done += 1
    last = 0
    while done + 1 < steps or (done < steps and st.rng.random() < 0.5 and last < 3):
        if last == 3:
            raise RetryError
        base = st.value(f"price {items[last]}")
        slots = {"I": items[last + 1], "J": items[last]}
        write_comparison(st, st.choose(["price.more", "price.less", "price.times"]), base, slots)
        done, last = done + 1, last + 1
    if done == steps:
        st.add_sentence("price.ask", I=items[last])
    else:
        st.add_sentence("price.line", n=st.number(2, 10), I=items[last])


def afford(st: Story, steps: int) -> None:
    """How many can be bought with the money there is."""
    name, item = st.names(1)[0], st.thing()
    price = st.number(2, 10)
    st.add_sentence("price.set", n=price, I=item)
    st.add_sentence("money.set", A=name, n=st.number(10, 80))
    events = {"money.earn": "add", "money.gift": "add", "money.spend": "sub", "money.save": "up"}
    slots = {"A": name}
    while (left := steps - 1 - st.steps(f"money {name}")) > 0:
        kind = st.choose([n for n, sort in events.items() if left > 1 or sort != "up"])
        now = st.value(f"money {name}")
        if left == 1:
            goal = price * st.number(2, 10)
            if goal == now or abs(goal - now) < 2:
                raise RetryError
            st.add_sentence("money.gift" if goal > now else "money.spend", n=abs(goal - now), **slots)
        else:
            write_event(st, kind, events[kind], now, slots)
    st.add_sentence("shop.afford", A=name, I=item)


def splitting(st: Story, steps: int) -> None:
    """A sum of money split equally, then spent or earned on."""
    a, b = st.names(2)
    people = st.choose(PEOPLE)
    if steps == 1 and st.rng.random() < 0.5:
        n, k = product(st, 100)
        st.add_sentence("split.group", n=n * k, k=k, P=people)
        st.add_sentence("split.ask", P=people)
        return
    st.add_sentence("money.set", A=a, n=st.number(2, 40))
    st.add_sentence("split.two", A=a, B=b, n=2 * st.number(2, 40))
    events = {"money.earn": "add", "money.gift": "add", "money.spend": "sub", "money.daily": "down"}
    slots = {"A": a}
    while (left := steps - st.steps(f"money {a}")) > 0:
        kind = st.choose([n for n, sort in events.items() if left > 1 or sort != "down"])
        write_event(st, kind, events[kind], st.value(f"money {a}"), slots)
    st.add_sentence("money.ask", A=a)
