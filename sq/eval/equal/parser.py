r"""From tokens to a tree: a recursive-descent reader of the LaTeX and the plain text that answers are written in.

It reads and computes nothing, so no text can make it slow: depth, tokens and digits are bounded, and what it does not
know is a `ParseError`. Two readings of one text are offered where writers mean two things (see `readings`).
"""

from __future__ import annotations

import re
from fractions import Fraction

from sq.eval.equal import names, plus_minus, units
from sq.eval.equal.brackets import Primaries
from sq.eval.equal.cursor import Cursor
from sq.eval.equal.lexer import Token, lex
from sq.eval.equal.rational import exact
from sq.eval.equal.tree import (
    ANY_INTEGER,
    Base,
    Clock,
    Const,
    Node,
    Num,
    Op,
    ParseError,
    Quantity,
    Rel,
    Seq,
    Sym,
    Text,
    replace,
    symbols,
)  # fmt: skip
from sq.eval.equal.units import UPRIGHT

_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?\s*(?:([ap])\.?\s?m\.?)?", re.ASCII | re.IGNORECASE)
_HOUR = re.compile(r"(\d{1,2})\s*([ap])\.?\s?m\.?", re.ASCII | re.IGNORECASE)
_HEX = re.compile(r"([0-9A-Za-z]{1,40})\s*_\s*\{?\s*(\d{1,2})\s*\}?", re.ASCII)
_SIGN_OF = {"percentage": "percent", "pct": "percent", "degrees": "degree", "deg": "degree"}
"""Units in words, as their sign is read."""
_OWN_NUMBER = re.compile(r"(?<![-^\d])\d")
"""A digit in a unit that is no power of it."""
_TRAILING_RANGE = frozenset({"Z", "N", "R", "Q", "C"})


def readings(text: str) -> list[Node]:
    """The trees a tidy answer may be read as, most likely first: `1,234` is one number, then a list of two.

    Raises:
        ParseError: where no reading is possible.
    """
    plain = re.sub(r"\\text\{\s*|\}", " ", text).strip()
    hour, clock, based = _HOUR.fullmatch(plain), _CLOCK.fullmatch(plain), _HEX.fullmatch(text)
    if hour:
        return [Clock((int(hour.group(1)), 0), hour.group(2).lower())]
    if based and re.search("[0-9]", based.group(1)) and re.search("[A-Za-z]", based.group(1)):
        return [Base(based.group(1).upper(), int(based.group(2)))]
    if clock:
        digits = tuple(int(g) for g in clock.groups()[:3] if g)
        first: list[Node] = [Clock(digits, (clock.group(4) or "").lower())]
        return first if clock.group(4) else [*first, parse(text, thousands=True)]
    text = _unbraced(text)
    nodes = [parse(text, thousands=True)]
    if re.search(r"\d,\d{3}(?!\d)", text):
        nodes.append(parse(text, thousands=False))
    return nodes


def _unbraced(text: str) -> str:
    """What stands in a TeX group around the whole answer: `{1,3}` lists 1 and 3."""
    inside = text[1:-1]
    return inside if text[:1] == "{" and text[-1:] == "}" and not re.search(r"[{}|:]", inside) else text


def parse(text: str, *, thousands: bool = True) -> Node:
    """One reading of a tidy answer."""
    return Parser(text, lex(text, thousands=thousands)).answer()


class Parser:
    """The grammar from the outside in: list, relation, set, sum, product, power; primaries are `brackets`.

    Args:
        text: a tidy answer.
        tokens: what `lexer.lex` made of it.
    """

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.cursor = Cursor(text, tokens)
        self.primaries = Primaries(self.cursor, self)

    def answer(self) -> Node:
        """The whole text as one answer."""
        node = self.listed()
        if self.cursor.peek().kind != "end":
            raise ParseError(f"'{self.cursor.peek().text}' is not expected here")
        return node

    def listed(self, stop: str = "") -> Node:
        """Items between separators; one item is itself, several are a bare `Seq`."""
        items = [self.item()]
        joins: list[str] = []
        while self.cursor.peek().kind == "sep":
            joins.append(self.cursor.next().text)
            while self.cursor.peek().kind == "sep":  # ", and"
                joins[-1] = self.cursor.next().text
            if self.cursor.peek().kind == "end" or self.cursor.peek().text == stop:
                break
            items.append(self.item())
        items = _without_ranges(items)
        if len(items) == 1:
            return items[0]
        last = joins[-1]
        return Seq("", last if last in ("or", "and") else ",", tuple(items))

    def item(self) -> Node:
        """A relation chain, or a single expression with its unit."""
        start = self.cursor.peek().start
        parts, ops, labels = [self.remainder(self.operand())], [], []
        labels.append(names.label(self.cursor.text[start : self.cursor.last_end]))
        while self.cursor.peek().kind == "rel" or self.cursor.peek().text == ":":
            ops.append(self.cursor.next().text)
            start = self.cursor.peek().start
            parts.append(self.operand())
            labels.append(names.label(self.cursor.text[start : self.cursor.last_end]))
        node = _relation(parts, ops, labels) if ops else parts[0]
        if self.cursor.peek().text in ("pmod", "bmod", "mod") and self.cursor.peek().kind == "cmd":
            self.cursor.next()
            return Op("mod", (node, self.primaries.argument(whole_number=True)))
        return node

    def remainder(self, node: Node) -> Node:
        """`17 \\bmod 5` as the 2 that is left, with its modulus where nothing follows."""
        token, value = self.cursor.peek(), exact(node)
        if token.kind != "cmd" or token.text not in ("bmod", "mod") or value is None:
            return node
        self.cursor.next()
        modulus = self.primaries.argument(whole_number=True)
        divisor = exact(modulus)
        left = Num(value % divisor) if divisor and value.denominator == divisor.denominator == 1 else node
        return left if self.cursor.peek().kind == "rel" else Op("mod", (left, modulus))

    def operand(self) -> Node:
        """An expression or a union of sets, with the unit behind it."""
        self.cursor.deeper()
        node = self.sum()
        while op := self.cursor.take("cup", "cap", "setminus"):
            node = Op(op, (node, self.sum()))
        self.cursor.depth -= 1
        node = self.unit(node)
        while isinstance(node, Quantity) and self.cursor.peek().kind == "num":
            node = _joined(node, self.unit(self.primaries.primary()))
        return node

    def unit(self, node: Node) -> Node:
        """The unit words behind a value, as one string."""
        written: list[str] = []
        while self.is_unit():
            written.append(self.cursor.next().text)
            if self.cursor.take("^"):
                written.append("^" + self.exponent_digits())
            if self.cursor.peek().text in ("/", "*", "-") and self.is_unit(1):
                written.append(self.cursor.next().text)
        factor, unit = units.scaled(" ".join(written).strip())
        if factor > 1:
            node = Op("mul", (node, Num(Fraction(factor))))
        if not unit and self.cursor.money and not symbols(node) and not isinstance(node, Seq):
            unit = "dollar"
        if not unit:
            return node
        if isinstance(node, Text):
            return Text(f"{node.words} {unit}")
        if _OWN_NUMBER.search(unit) and not units.canonical(unit):
            raise ParseError(f"'{unit}' has a number of its own")
        if change := units.change(unit):
            raise ParseError(f"'{change}' changes the number before it")
        if isinstance(node, Quantity):
            return node if unit == "dollar" else Quantity(node.value, f"{node.unit} {unit}")
        return Quantity(node, _SIGN_OF.get(unit.lower(), unit))

    def is_unit(self, ahead: int = 0) -> bool:
        """Whether a unit word comes next."""
        token = self.cursor.peek(ahead)
        return token.kind == "word" or (token.kind == "letter" and token.text in UPRIGHT)

    def exponent_digits(self) -> str:
        """The power of a unit."""
        braced, sign = self.cursor.take("{"), self.cursor.take("-")
        digits = self.cursor.next().text
        if braced:
            self.cursor.expect("}")
        return sign + digits

    def sum(self) -> Node:
        """Terms joined by plus, minus and plus-or-minus."""
        self.cursor.deeper()
        terms = [_signed(self.cursor.take("+", "-", "pm", "mp") or "+", self.term())]
        while sign := self.cursor.take("+", "-", "pm", "mp"):
            if self.cursor.peek().kind == "end" and sign in "+-":
                raise ParseError("the answer ends in a sign")
            terms.append(_signed(sign, self.term()))
        self.cursor.depth -= 1
        return terms[0] if len(terms) == 1 else Op("add", tuple(terms))

    def term(self) -> Node:
        """Factors joined by times, by a slash, or by nothing."""
        node = self.factor()
        while True:
            text, kind = self.cursor.peek().text, self.cursor.peek().kind
            if kind == "op" and text in ("*", "/"):
                self.cursor.next()
                node = _percentage(Op("mul" if text == "*" else "div", (node, self.factor())))
            elif self.primaries.starts_factor():
                node = Op("mul", (node, self.power()))
            else:
                return node

    def factor(self) -> Node:
        """A power with any signs before it."""
        signs = 0
        while sign := self.cursor.take("-", "+"):
            signs += sign == "-"
        node = self.power()
        return Op("neg", (node,)) if signs % 2 else node

    def power(self) -> Node:
        """A primary with its subscript, exponents, factorials, percent and degree signs."""
        self.cursor.deeper()
        node = self.primaries.primary()
        while True:
            if self.cursor.peek(1).kind != "end" and self.cursor.take("^"):
                node = self.raised(node)
            elif self.cursor.take("!"):
                node = Op("fact", (node,))
            elif self.cursor.take("%"):
                node = Quantity(node, "percent")
            elif self.cursor.take("_"):
                node = self.subscripted(node)
            elif isinstance(node, Sym) and self.cursor.take("'"):
                node = Sym(node.name + "'")
            else:
                break
        self.cursor.depth -= 1
        return node

    def raised(self, base: Node) -> Node:
        """What stands after `^`: a degree sign, primes, or an exponent."""
        group = self.cursor.peek().text == "{"
        ahead = self.cursor.peek(1).text if group else self.cursor.peek().text
        if ahead == "degree":
            for _ in range(3 if group else 1):
                self.cursor.next()
            if self.cursor.peek().kind in ("name",) and self.cursor.peek().text in ("C", "F"):
                return Quantity(base, {"C": "celsius", "F": "fahrenheit"}[self.cursor.next().text])
            return Quantity(base, "degree")
        if ahead == "'" and isinstance(base, Sym):
            exponent = self.cursor.peek()
            while self.cursor.peek().text in ("{", "'", "}"):
                exponent = self.cursor.next()
            return Sym(base.name + "'") if exponent else base
        if self.cursor.peek().text in ("+", "-") and self.cursor.peek(1).kind in ("num", "name"):
            return Op("pow", (base, self.factor()))
        return Op("pow", (base, self.primaries.argument(whole_number=True)))

    def subscripted(self, node: Node) -> Node:
        """`x_1`, `a_{n+1}`: part of the name; digits with a subscript are digits in that base."""
        mark = self.cursor.raw_argument()
        if isinstance(node, Num):
            digits = re.sub(r"\D", "", mark)
            base = int(digits) if digits and len(digits) <= 2 else names.BASES.get(mark.lower(), 0)
            if base:
                return Base(str(node.value), base)
            raise ParseError("a number has a subscript that is no base")
        if isinstance(node, Sym):
            return Sym(f"{node.name}_{mark}")
        if isinstance(node, Op) and node.op == "pow" and isinstance(node.args[0], Sym):  # v^2_0
            return Op("pow", (Sym(f"{node.args[0].name}_{mark}"), node.args[1]))
        raise ParseError("a subscript stands where none is read")


def _joined(first: Quantity, second: Node) -> Node:
    """`3 feet 2 inches` as inches."""
    if isinstance(second, Quantity):
        large, small = units.canonical(first.unit), units.canonical(second.unit)
        if large and small and large.kinds == small.kinds and large.factor > small.factor:
            ratio = Num(large.factor / small.factor)
            return Quantity(Op("add", (Op("mul", (first.value, ratio)), second.value)), second.unit)
    raise ParseError("two quantities stand side by side")


def _percentage(node: Op) -> Node:
    """`1/2 %` is half a percent: the sign is of the whole fraction."""
    top, bottom = node.args
    if node.op == "div" and isinstance(top, Num) and isinstance(bottom, Quantity) and isinstance(bottom.value, Num):
        return Quantity(Op("div", (top, bottom.value)), "percent") if bottom.unit == "percent" else node
    return node


def _signed(sign: str, node: Node) -> Node:
    if sign == "+":
        return node
    if sign == "-":
        if isinstance(node, Quantity):
            return Quantity(Op("neg", (node.value,)), node.unit)
        return Op("neg", (node,))
    return Op(sign, (node,))


def _relation(parts: list[Node], ops: list[str], labels: list[str]) -> Node:
    of_letters = all(isinstance(p, Sym) and (p.name.isupper() or p.name.startswith("triangle ")) for p in parts)
    ops = [("cong" if of_letters else "=") if op == "equiv" else op for op in ops]  # y \equiv 0 is y = 0 for every x
    if ops == [":"] or (set(ops) == {":"}):
        return Op("ratio", tuple(parts))
    if ops == ["!="] and plus_minus.has(parts[1]):  # neither of the two
        each = (Rel((parts[0], value), ("!=",), (labels[0], "")) for value in plus_minus.expanded(parts[1]))
        return Seq("", "and", tuple(each))
    while ":" in ops:  # a ratio inside a chain binds tighter than the relation
        at = ops.index(":")
        pair = Op("ratio", (parts[at], parts[at + 1]))
        label = f"{labels[at]}:{labels[at + 1]}" if labels[at] and labels[at + 1] else ""
        parts[at : at + 2], labels[at : at + 2], ops[at : at + 1] = [pair], [label], []
    return Rel(tuple(parts), tuple(ops), tuple(labels))


def _without_ranges(items: list[Node]) -> list[Node]:
    """The items without `k in Z`, which says what k runs over and is no answer itself."""
    ranges = [i for i in items if isinstance(i, Rel) and _is_range(i)]
    rest = [i for i in items if i not in ranges]
    if not ranges or not rest:
        return items
    whole = [r.parts[0].name for r in ranges if isinstance(r.parts[0], Sym) and r.parts[1] in (Const("Z"), Sym("Z"))]
    return [replace(i, {whole[0]: Sym(ANY_INTEGER)}) for i in rest] if len(whole) == 1 else rest


def _is_range(node: Node) -> bool:
    return (
        isinstance(node, Rel)
        and node.ops == ("in",)
        and isinstance(node.parts[0], Sym)
        and isinstance(node.parts[1], Const | Sym)
        and node.parts[1].name in _TRAILING_RANGE
    )
