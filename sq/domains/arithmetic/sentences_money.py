"""Sentences about money: prices, buying and selling, wages, savings, change, splitting a sum."""

from __future__ import annotations

from sq.domains.arithmetic import quantity as g
from sq.domains.arithmetic.grammar import Effect, Kind, Slots, kind
from sq.domains.arithmetic.lexicon import SINGULAR
from sq.domains.arithmetic.world import Node, World

MONEY = g.Quantity("money {A}", "{A} has", "dollars", whole=False)
EARNED = g.Quantity("earned {A}", "{A} earns", "dollars", whole=False, total=True)
SPENT = g.Quantity("spent {A}", "{A} spends", "dollars", whole=False, total=True)
PRICE = g.Quantity("price {I}", "Each {i} costs", "dollars", whole=False, slot="I")
COST = g.Quantity("cost", "The cost is", "dollars", whole=False)


def _named(s: Slots) -> Slots:
    """Slots with the singular of the item, for the wording of a step."""
    return {**s, "i": SINGULAR[s["I"]]}


def _pay(w: World, s: Slots, node: Node) -> None:
    """Whoever spends has less money, if it is known how much; and has spent more in all."""
    if MONEY.of(s) in w.now:
        MONEY.change(w, s, "-", node)
    SPENT.change(w, s, "+", node)


def _gain(w: World, s: Slots, node: Node) -> None:
    if MONEY.of(s) in w.now:
        MONEY.change(w, s, "+", node)
    EARNED.change(w, s, "+", node)


def _earns(w: World, s: Slots) -> None:
    _gain(w, s, MONEY.leaf(w, s["d"]))


def _earns_rate(w: World, s: Slots) -> None:
    _gain(w, s, MONEY.times(w, s, "d", "k"))


def _spends(w: World, s: Slots) -> None:
    _pay(w, s, MONEY.leaf(w, s["d"]))


def _earns_and_spends(w: World, s: Slots) -> None:
    _gain(w, s, MONEY.leaf(w, s["d"]))
    _pay(w, s, MONEY.leaf(w, s["e"]))


def _spends_rate(w: World, s: Slots) -> None:
    _pay(w, s, MONEY.times(w, s, "d", "k"))


def _line(w: World, count: int | None, item: str) -> Node:
    """What `count` items cost at their price."""
    price = w.get(f"price {item}")
    if count == 1:
        return price
    return w.calc("*", price, g.counted(w, count), "That is", "dollars")


def _buys(w: World, s: Slots) -> None:
    _pay(w, s, _line(w, s["n"], s["I"]))


def _buys_two(w: World, s: Slots) -> None:
    _pay(w, s, _line(w, s["n"], s["I"]))
    _pay(w, s, _line(w, s["m"], s["J"]))


def _price(w: World, s: Slots) -> None:
    w.state(PRICE.of(_named(s)), PRICE.leaf(w, s["d"]))


def _price_more(op: str) -> Effect:
    def effect(w: World, s: Slots) -> None:
        named = _named(s)
        base = w.get(f"price {s['J']}")
        by = w.leaf(s["M"] if op == "*" else s["d"])
        w.state(PRICE.of(named), PRICE.calc(w, named, op, base, by))

    return effect


def _price_moves(op: str) -> Effect:
    def effect(w: World, s: Slots) -> None:
        PRICE.change(w, _named(s), op, PRICE.leaf(w, s["d"]))

    return effect


def _pays_for(w: World, s: Slots) -> None:
    paid = MONEY.leaf(w, s["d"])
    w.state(PRICE.of(s), PRICE.calc(w, _named(s), "/", paid, g.counted(w, s["n"])))
    _pay(w, s, paid)


def _ask_price(w: World, s: Slots) -> Node:
    return w.asked(PRICE.of(_named(s)))


def _ask_line(w: World, s: Slots) -> Node:
    w.asked(PRICE.of(s))
    return _line(w, s["n"], s["I"])


def _ask_lines(w: World, s: Slots) -> Node:
    w.asked(PRICE.of(s))
    w.asked(f"price {s['J']}")
    left, right = _line(w, s["n"], s["I"]), _line(w, s["m"], s["J"])
    return w.calc("+", left, right, "The total is", "dollars")


def _coupon(w: World, s: Slots) -> None:
    off = MONEY.leaf(w, s["d"])
    w.put(SPENT.of(s), SPENT.calc(w, s, "-", w.get(SPENT.of(s)), off))
    if MONEY.of(s) in w.now:
        MONEY.change(w, s, "+", off)


def _hands_over(w: World, s: Slots) -> None:
    w.state(f"paid {s['A']}", MONEY.leaf(w, s["d"]))


def _change(w: World, s: Slots) -> Node:
    return MONEY.calc(w, s, "-", w.asked(f"paid {s['A']}"), w.asked(SPENT.of(s)), "The change is")


def _afford(w: World, s: Slots) -> Node:
    money, price = w.asked(MONEY.of(s)), w.asked(PRICE.of(s))
    return w.calc("/", money, price, "{A} can buy".format_map(s), s["I"], whole=True)


def _goal(w: World, s: Slots) -> None:
    w.state(f"goal {s['A']}", MONEY.leaf(w, s["d"]))


def _short(w: World, s: Slots) -> Node:
    return MONEY.calc(w, s, "-", w.asked(f"goal {s['A']}"), w.asked(MONEY.of(s)), "{A} needs")


def _weeks_to_goal(w: World, s: Slots) -> Node:
    return w.calc("/", _short(w, s), MONEY.leaf(w, s["d"]), "It takes", "weeks", whole=True)


def _split_two(w: World, s: Slots) -> None:
    node = w.calc("/", MONEY.leaf(w, s["d"]), w.leaf(2), "Each gets", "dollars")
    for slot in "AB":
        _gain(w, {**s, "A": s[slot]}, node)
    w.state("each gets", node)


def _split_group(w: World, s: Slots) -> None:
    node = w.calc("/", MONEY.leaf(w, s["d"]), g.counted(w, s["k"]), "Each gets", "dollars")
    w.state(f"each gets {s['P']}", node)


KINDS: tuple[Kind, ...] = (
    kind(
        "money.set",
        g.states(MONEY, "d"),
        "{A} has {d}.",
        "{A} starts with {d}.",
        "{A} has {d} in a bank.",
        "At first, {A} has {d}.",
    ),
    kind("money.earn", _earns, "{A} earns {d} more.", "{A} earns {d} on {D}."),
    kind("money.first", _earns, "{A} earns {d}.", "{A} earns {d} on {D}.", "On {D}, {A} earns {d}."),
    kind("money.both", _earns_and_spends, "{A} earns {d} and then spends {e}."),
    kind(
        "money.gift",
        g.changes("+", MONEY, slot="d"),
        "{A} gets {d} [as a gift|from an aunt|from a friend].",
        "{A} finds {d}.",
    ),
    kind(
        "money.wage",
        _earns_rate,
        "{A} earns {d} an hour for {k} hours.",
        "{A} works {k} hours for {d} an hour.",
        "{A} earns {d} each day for {k} days.",
    ),
    kind(
        "money.save",
        g.changes_groups("+", MONEY, each="d"),
        "{A} saves {d} each [week for {k} weeks|day for {k} days].",
    ),
    kind("money.sell", _earns_rate, "{A} sells {k} {I} for {d} each."),
    kind(
        "money.spend",
        _spends,
        "{A} spends {d} on [lunch|a ticket|a gift|snacks|clothes].",
        "{A} buys a [book|shirt|lamp|game] for {d}.",
    ),
    kind(
        "money.daily", _spends_rate, "{A} spends {d} each day for {k} days.", "{A} spends {d} each week for {k} weeks."
    ),
    kind("money.buy", _spends_rate, "{A} buys {k} {I} for {d} each."),
    kind("money.give", g.gives(MONEY, "d"), "{A} gives {d} to {B}.", "{A} gives {B} {d}."),
    kind("money.part", g.takes_part(MONEY), "{A} [spends|gives away] {F} of the money."),
    kind("money.more", g.compares(MONEY, "+", "d"), "{A} has {d} more than {B}."),
    kind("money.less", g.compares(MONEY, "-", "d"), "{A} has {d} less than {B}."),
    kind("money.times", g.multiplies(MONEY), "{A} has {M} as much money as {B}."),
    kind("money.fraction", g.divides(MONEY), "{A} has {F} as much money as {B}."),
    kind("money.ask", g.asks(MONEY), "How much money does {A} have[| now| left| in the end]?"),
    kind("money.total", g.asks_total(MONEY, "B"), "How much money do {A} and {B} have [together|in all]?"),
    kind("money.diff", g.asks_difference(MONEY), "How much more money does {A} have than {B}?"),
    kind("money.goal", _goal, "{A} wants to buy a [bike|phone|tent|desk] that costs {d}."),
    kind("money.short", _short, "How much more money does {A} need?"),
    kind("money.weeks", _weeks_to_goal, "If {A} saves {d} each week, how many weeks does it take?"),
    kind("earned.ask", g.asks(EARNED), "How much money does {A} earn[| in all]?", "How much does {A} earn[| in all]?"),
    kind("earned.more", g.compares(EARNED, "+", "d"), "{A} earns {d} more than {B}."),
    kind("earned.times", g.multiplies(EARNED), "{A} earns {M} as much as {B}."),
    kind("earned.total", g.asks_total(EARNED, "B"), "How much do {A} and {B} earn [together|in all]?"),
    kind("earned.diff", g.asks_difference(EARNED), "How much more does {A} earn than {B}?"),
    kind("spent.ask", g.asks(SPENT), "How much [money |]does {A} spend[| in all]?"),
    kind("spent.more", g.compares(SPENT, "+", "d"), "{A} spends {d} more than {B}."),
    kind("spent.times", g.multiplies(SPENT), "{A} spends {M} as much as {B}."),
    kind("spent.total", g.asks_total(SPENT, "B"), "How much do {A} and {B} spend [together|in all]?"),
    kind("spent.diff", g.asks_difference(SPENT), "How much more does {A} spend than {B}?"),
    kind("price.set", _price, "Each {i} costs {d}.", "A {i} costs {d}.", "The price of a {i} is {d}."),
    kind("price.more", _price_more("+"), "A {i} costs {d} more than a {j}."),
    kind("price.less", _price_more("-"), "A {i} costs {d} less than a {j}."),
    kind("price.times", _price_more("*"), "A {i} costs {M} as much as a {j}."),
    kind("price.up", _price_moves("+"), "The price of a {i} goes up by {d}.", "Each {i} costs {d} more now."),
    kind("price.down", _price_moves("-"), "The price of a {i} goes down by {d}.", "Each {i} costs {d} less now."),
    kind("price.pays", _pays_for, "{A} pays {d} for {n} {I}."),
    kind("price.ask", _ask_price, "How much does [a|each] {i} cost[| now]?", "What is the price of a {i}?"),
    kind("price.line", _ask_line, "How much do {n} {I} cost?", "What is the cost of {n} {I}?"),
    kind(
        "price.lines",
        _ask_lines,
        "How much do {n} {I} and {m} {J} cost [together|in all]?",
        "What is the total cost of {n} {I} and {m} {J}?",
    ),
    kind("shop.buy", _buys, "{A} buys {n} {I}."),
    kind("shop.two", _buys_two, "{A} buys {n} {I} and {m} {J}."),
    kind("shop.coupon", _coupon, "{A} has a coupon for {d} off.", "{A} uses a coupon for {d} off."),
    kind("shop.pay", _hands_over, "{A} pays with {d}.", "{A} gives the clerk {d}."),
    kind("shop.change", _change, "How much change does {A} get?", "How much change should {A} get?"),
    kind("shop.afford", _afford, "How many {I} can {A} buy?"),
    kind("split.two", _split_two, "{A} and {B} split {d} equally."),
    kind("split.group", _split_group, "A group of {k} {P} splits {d} equally.", "{k} {P} split {d} equally."),
    kind("split.money", g.splits(MONEY, "each gets {P}", "Each gets"), "{A} splits the money equally among {k} {P}."),
    kind("split.ask", g.asks_key("each gets {P}"), "How much [money |]does each {p} get?"),
    kind("split.one", g.asks_key("each gets"), "How much does each one get?"),
)
