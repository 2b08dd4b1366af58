"""Reading tokens one after another, with the bounds that keep any text cheap to read."""

from __future__ import annotations

import re
from typing import Protocol

from sq.eval.equal.lexer import Token
from sq.eval.equal.tree import Node, ParseError

MAX_DEPTH = 120
"""Calls of the grammar inside one another; brackets nest to about a fifth of this."""

_BRACED = re.compile(r"\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")


class Grammar(Protocol):
    """The outer levels of the grammar, as the inner ones call them."""

    def listed(self, stop: str = "") -> Node: ...
    def operand(self) -> Node: ...
    def sum(self) -> Node: ...
    def term(self) -> Node: ...
    def factor(self) -> Node: ...
    def power(self) -> Node: ...
    def is_unit(self, ahead: int = 0) -> bool: ...


class Cursor:
    """Where the parser stands in its tokens."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0
        self.calls = False
        """Whether every name before a bracket is a function of what stands in it."""
        self.money = r"\usd" in text

    def peek(self, ahead: int = 0) -> Token:
        """The token `ahead` places on; the end stays the end."""
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def next(self) -> Token:
        """Take a token."""
        token = self.peek()
        self.at = min(self.at + 1, len(self.tokens))
        return token

    def take(self, *signs: str) -> str:
        """Take the next token where it is one of these signs; its text, or nothing."""
        token = self.peek()
        return self.next().text if token.kind == "op" and token.text in signs else ""

    def expect(self, text: str) -> None:
        """Take the token `text`, or fail."""
        token = self.next()
        if token.text != text:
            raise ParseError(f"'{text}' is expected where '{token.text}' stands")

    @property
    def last_end(self) -> int:
        """Where the last token taken ends in the text."""
        return self.tokens[self.at - 1].end if self.at else 0

    @property
    def previous_kind(self) -> str:
        """The kind of the last token taken."""
        return self.tokens[self.at - 1].kind if self.at else ""

    def deeper(self) -> None:
        """Count one call inside another."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError("the answer is nested too deeply")

    def split_number(self) -> None:
        """Part a number into its first digit and the rest, as TeX takes `12` in `\\frac12`."""
        token = self.peek()
        if token.kind == "num" and len(token.text) > 1 and "." not in token.text:
            first = token._replace(text=token.text[0], end=token.start + 1)
            rest = token._replace(text=token.text[1:], start=token.start + 1, spaced=False)
            self.tokens[self.at : self.at + 1] = [first, rest]

    def raw_argument(self) -> str:
        """The next braced group, or the next token, as text without spaces."""
        token = self.peek()
        if token.text != "{":
            return self.next().text
        match = _BRACED.match(self.text, token.start)
        if match is None:
            raise ParseError("a brace is not closed")
        while self.peek().kind != "end" and self.peek().start < match.end():
            self.next()
        inside = re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r"\1", match.group(1))
        return re.sub(r"\s+", "", inside).strip("()")
