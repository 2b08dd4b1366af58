"""The inner half of the grammar: primaries, that is numbers, names, functions, fractions, roots and all brackets."""

from __future__ import annotations

import re
from fractions import Fraction

from sq.eval.equal import environments
from sq.eval.equal.cursor import Cursor, Grammar
from sq.eval.equal.lexer import MARKS
from sq.eval.equal.numerals import mixed_number, number
from sq.eval.equal.tree import Const, Node, Num, Op, ParseError, Quantity, Rel, Seq, Sym, Text, mapped

_CLOSERS = {"(": (")", "]"), "[": ("]", ")"), "\\{": ("\\}",), "<<": (">>",), "{": ("}",)}
_CALLED = frozenset({"f", "g", "F", "G"})
_SETS = frozenset({"R", "Z", "N", "Q", "C"})
_INVERTED = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh"})
_INVERSE = Op("neg", (Num(Fraction(1)),))


class Primaries:
    """Reads one primary at the cursor; what stands inside its brackets goes to the outer grammar.

    Args:
        cursor: the tokens.
        grammar: the outer levels.
    """

    def __init__(self, cursor: Cursor, grammar: Grammar) -> None:
        self.cursor = cursor
        self.grammar = grammar

    def primary(self) -> Node:
        """One indivisible thing."""
        token = self.cursor.next()
        if token.kind == "num":
            return self.numeral(number(token.text))
        if token.kind == "const":
            return Const(token.text)
        if token.kind in ("name", "letter"):
            return self.named(token.text)
        if token.kind == "func":
            return self.function(token.text)
        if token.kind == "word":
            return self.sentence(token.text)
        if token.kind == "cmd":
            return self.command(token.text)
        if token.kind == "op" and token.text in (*_CLOSERS, "|", "\\|", "lfloor", "lceil"):
            return self.bracket(token.text)
        raise ParseError(f"'{token.text or 'the end'}' is not expected here")

    def argument(self, *, whole_number: bool = False) -> Node:
        """What a command or `^` takes: a braced group, else one digit (or one whole number), name or command."""
        if not whole_number:
            self.cursor.split_number()
        return self.primary()

    def starts_factor(self) -> bool:
        """Whether the next token begins another factor of a product."""
        token = self.cursor.peek()
        if token.kind in ("const", "name", "func", "letter"):
            return not (token.kind == "letter" and self.grammar.is_unit())
        if token.kind == "num":  # `2^6 3^5`, but `3 5` is no product
            return self.cursor.previous_kind != "num" or (token.spaced and self.cursor.peek(1).text == "^")
        if token.kind == "cmd":
            return token.text not in ("end", "pmod", "bmod", "mod")
        if token.text == "|":
            return self.cursor.bars == 0
        return token.kind == "op" and token.text in ("(", "[", "{", "\\{", "<<", "lfloor", "lceil")

    def numeral(self, value: Num) -> Node:
        """A number, or a mixed number where a proper fraction of digits follows."""
        if value.digits:
            return value
        if self.cursor.peek().text == "frac" and self.cursor.peek().kind == "cmd":
            mixed = mixed_number(value, self.cursor.text[self.cursor.peek().start : self.cursor.peek().start + 40])
            if mixed is not None:
                self.skip_fraction()
                return mixed
        ahead = [self.cursor.peek(k) for k in range(3)]
        if ahead[0].kind == "num" and ahead[0].spaced and ahead[1].text == "/" and ahead[2].kind == "num":
            mixed = mixed_number(value, f"{ahead[0].text}/{ahead[2].text}")
            if mixed is not None:
                for _ in range(3):
                    self.cursor.next()
                return mixed
        return value

    def skip_fraction(self) -> None:
        """Move past a fraction of plain digits."""
        self.cursor.next()
        for _ in range(2):
            self.argument()

    def named(self, name: str) -> Node:
        """A variable; with brackets behind it, a call of f or g, or of anything with several arguments."""
        if self.cursor.peek().text == "(" and self.cursor.peek().kind == "op":
            call = self.call(name)
            if call is not None:
                return call
        return Sym(name)

    def call(self, name: str) -> Node | None:
        """`f(x)` and `phi(x, y)`; None where the bracket is a factor."""
        mark = self.cursor.at
        if name not in _CALLED and not self.cursor.calls and not self.comma_inside():
            return None
        self.cursor.next()
        inside = self.grammar.listed(")")
        if self.cursor.next().text != ")":
            self.cursor.at = mark
            return None
        return Op("call", (Sym(name), *(inside.items if isinstance(inside, Seq) and not inside.left else (inside,))))

    def comma_inside(self) -> bool:
        """Whether the bracket that opens next holds a comma at its own level."""
        depth = 0
        for ahead in range(0, 60):
            token = self.cursor.peek(ahead)
            if token.kind == "end":
                return False
            depth += (token.text in ("(", "[", "\\{")) - (token.text in (")", "]", "\\}"))
            if depth == 1 and token.text == ",":
                return True
            if depth == 0:
                return False
        return False

    def function(self, name: str) -> Node:
        """`sin x`, `sin^2 x`, `log_2 x`."""
        base = exponent = None
        while mark := self.cursor.take("^", "_"):
            if mark == "_":
                base = self.argument(whole_number=True)
            else:
                exponent = self.argument(whole_number=True)
        if exponent == _INVERSE and name in _INVERTED:
            name, exponent = "arc" + name, None
        arg = self.function_argument()
        node = Op("log", (arg, base)) if base is not None and name == "log" else Op(name, (arg,))
        return node if exponent is None else Op("pow", (node, exponent))

    def function_argument(self) -> Node:
        """A bracket alone, or the factors up to the next sign, slash or function."""
        self.cursor.deeper()
        token = self.cursor.peek()
        if token.text in ("(", "[", "{") and token.kind == "op":
            node = self.primary()  # a power behind it is of the function's value
        elif token.text == "|" and token.kind == "op":
            node = self.grammar.power()
        elif token.kind == "op" and token.text in ("-", "+"):
            node = self.grammar.factor()
        else:
            node = self.grammar.power()
            while (
                self.starts_factor() and self.cursor.peek().kind != "func" and self.cursor.peek().text not in ("(", "[")
            ):
                node = Op("mul", (node, self.grammar.power()))
        self.cursor.depth -= 1
        return node

    def sentence(self, first: str) -> Node:
        """Words, up to the end of the item."""
        words = [first]
        while self.cursor.peek().kind in ("word", "letter", "name", "const", "func") or self.cursor.peek().text in (
            "-",
            "'",
        ):
            words.append(self.cursor.next().text)
        return Text(" ".join(words))

    def command(self, name: str) -> Node:
        """`\\frac`, `\\sqrt`, `\\binom`, sums, matrices, marked names."""
        self.cursor.deeper()
        try:
            if name in ("frac", "binom"):
                return Op("div" if name == "frac" else "binom", (self.argument(), self.argument()))
            if name == "sqrt":
                index = self.root_index()
                body = self.argument(whole_number=True)
                return Op("sqrt", (body,)) if index is None else Op("root", (body, index))
            if name in ("sum", "prod"):
                return self.series(name)
            if name == "begin":
                return environments.environment(self.cursor, self.grammar)
            if name == "mathbb":
                letter = self.cursor.raw_argument()
                return Const(letter) if letter in _SETS else Sym(letter)
            if name in ("angle", "triangle"):
                points = self.letters()
                return Sym(f"{name} {min(points, points[::-1]) if name == 'angle' else points}")
            if name in MARKS:
                return self.marked(name, self.cursor.raw_argument())
        finally:
            self.cursor.depth -= 1
        raise ParseError(f"\\{name} is not read here")

    def marked(self, mark: str, name: str) -> Node:
        r"""`\vec{v}` is a name of its own; `\mathbf{v}` is v, and `\mathbf{12}` is 12."""
        if mark not in ("mathbf", "mathcal"):
            return self.named(f"{mark}({name})")
        return number(name) if re.fullmatch(r"\d{1,50}(?:\.\d{1,50})?", name, re.ASCII) else self.named(name)

    def letters(self) -> str:
        """A run of capital letters: the points of an angle."""
        pieces = []
        while self.cursor.peek().kind in ("name", "letter"):
            pieces.append(self.cursor.next().text)
        return "".join(pieces)

    def root_index(self) -> Node | None:
        """The `[n]` of a root."""
        if not self.cursor.take("["):
            return None
        index = self.grammar.sum()
        self.cursor.expect("]")
        return index

    def series(self, name: str) -> Node:
        """A sum or product with its variable and bounds."""
        self.cursor.expect("_")
        lower = self.argument()
        self.cursor.expect("^")
        upper = self.argument(whole_number=True)
        body = self.grammar.term()
        if isinstance(lower, Rel) and lower.parts[0] == Const("i"):  # i counts here
            lower, body = Rel((Sym("i"), *lower.parts[1:]), lower.ops, lower.names), _counting(body)
        if not (isinstance(lower, Rel) and lower.ops == ("=",) and isinstance(lower.parts[0], Sym)):
            raise ParseError("a sum without a first value is not read")
        return Op(name, (lower.parts[0], lower.parts[1], upper, body))

    def bracket(self, opener: str) -> Node:
        """Whatever stands between brackets of any kind."""
        self.cursor.deeper()
        try:
            if opener in ("|", "\\|"):
                return self.bars_of(opener)
            if opener in ("lfloor", "lceil"):
                inside = self.grammar.sum()
                self.cursor.expect("r" + opener[1:])
                return Op(opener[1:], (inside,))
            outer, self.cursor.bars = self.cursor.bars, 0
            node = self.inside(opener)
            self.cursor.bars = outer
            return node
        finally:
            self.cursor.depth -= 1

    def bars_of(self, opener: str) -> Node:
        """An absolute value or a norm."""
        self.cursor.bars += 1
        inside = self.grammar.sum()
        self.cursor.bars -= 1
        self.cursor.expect(opener)
        return Op("abs", (inside,))

    def inside(self, opener: str) -> Node:
        """A group, tuple, interval, set or set-builder."""
        closers = _CLOSERS[opener]
        if self.cursor.peek().text in closers and self.cursor.peek().kind == "op":
            return Seq(opener, self.cursor.next().text, ())
        if opener in ("\\{", "{") and environments.builder_bar(self.cursor):
            return environments.builder(self.cursor, self.grammar, closers)
        node = self.grammar.listed(closers[0])
        closer = self.cursor.next()
        if closer.kind != "op" or closer.text not in closers:
            raise ParseError("a bracket is not closed")
        bare = isinstance(node, Seq) and node.left == ""
        if bare and isinstance(node, Seq):
            return Seq("\\{" if opener == "{" else opener, "\\}" if opener == "{" else closer.text, node.items)
        if opener == "\\{":
            return Seq(opener, closer.text, (node,))
        if closer.text != closers[0]:
            raise ParseError("an interval with one end is not read")
        return node.value if isinstance(node, Quantity) and node.unit == "dollar" else node


def _counting(node: Node) -> Node:
    """An expression whose `i` is a variable."""
    return Sym("i") if node == Const("i") else mapped(node, _counting)
