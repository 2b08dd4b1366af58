"""Formulas as MathML, which browsers draw by themselves: no script, no font, no network.

Common school and competition LaTeX is read by hand here, never executed; what is not understood stays as its source, in
code type. Work is bounded by the text's length and the depth of its braces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sq.report.html import Markup, join, tag
from sq.report.symbols import (
    ACCENTS,
    EMPTY,
    FENCED,
    FENCES,
    FUNCTIONS,
    LETTERS,
    MATRICES,
    OPERATORS,
    SPACES,
    STYLES,
    TEXTS,
)  # fmt: skip

MATH = re.compile(
    r"(?<!\\)\$\$(?P<a>.{1,4000}?)(?<!\\)\$\$|\\\[(?P<b>.{1,4000}?)\\\]|\\\((?P<c>.{1,2000}?)\\\)"
    r"|(?<![\\$])\$(?P<d>(?![\s\d,.]+\s)[^$\n]{1,1000}?)(?<![\s\\])\$(?!\d)"
    r"|(?P<e>\\begin\{(?P<env>align\*?|equation\*?|gather\*?)\}.{1,4000}?\\end\{(?P=env)\})"
    r"|(?P<f>\\boxed\{(?:[^{}]|\{(?:[^{}]|\{[^{}]{0,200}\}){0,200}\}){0,300}\})",
    re.DOTALL,
)
TOKEN = re.compile(
    r"\\(?:begin|end)\s*\{[a-zA-Z]+\*?\}|\\[a-zA-Z]+|\\.|\d+(?:[.,]\d+)*|[{}^_&]|[A-Za-z]|\s+|.", re.DOTALL
)
DEPTH = 40


class UnreadError(ValueError):
    """A formula that is not understood."""


def rich(text: str) -> Markup:
    """A text with its formulas drawn; everything else escaped, line breaks kept by the style of its element."""
    pieces: list[str] = []
    end = 0
    for found in MATH.finditer(text):
        pieces += [text[end : found.start()], formula(found)]
        end = found.end()
    return join([*pieces, text[end:]])


def formula(found: re.Match[str]) -> Markup:
    """One formula as MathML; its source where it cannot be read."""
    source = next(part for part in found.group("a", "b", "c", "d", "e", "f") if part is not None)
    try:
        return mathml(source, block=found.group("a") is not None or found.group("b") is not None)
    except UnreadError:
        return tag("code", found[0])


def mathml(source: str, *, block: bool = False) -> Markup:
    """LaTeX mathematics as one `<math>` element.

    Raises:
        UnreadError: naming the first thing that is not understood.
    """
    reader = _Reader([t for t in TOKEN.findall(source) if not t.isspace()], source)
    body = reader.row(lambda token: False)
    if reader.peek() is not None:
        raise UnreadError(f"{reader.peek()} stands alone")
    return tag("math", body, display="block" if block else None, alttext=source[:500])


@dataclass(slots=True)
class _Reader:
    tokens: list[str]
    source: str
    place: int = 0
    depth: int = 0

    def peek(self) -> str | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def take(self) -> str:
        token = self.peek()
        if token is None:
            raise UnreadError("it ends too early")
        self.place += 1
        return token

    def row(self, stop: Callable[[str], bool]) -> Markup:
        """Everything up to a token that stops it (which stays), as one row."""
        self.depth += 1
        if self.depth > DEPTH:
            raise UnreadError("it is nested too deeply")
        parts: list[Markup] = []
        while (token := self.peek()) is not None and not stop(token) and token not in ("}", "&", r"\\"):
            if token == r"\right" or token.startswith(r"\end"):
                break
            parts.append(self.scripted())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else tag("mrow", *parts)

    def scripted(self) -> Markup:
        """An atom with what stands above and below it."""
        base = tag("mrow") if self.peek() in ("^", "_") else self.atom()
        below: Markup | None = None
        above: Markup | None = None
        while (token := self.peek()) is not None and (token in ("^", "_") or token == "'"):
            self.take()
            if token == "'":
                above = tag("mo", "′") if above is None else tag("mrow", above, tag("mo", "′"))
            elif token == "_" and below is None:
                below = self.argument()
            elif token == "^" and (above is None or above == tag("mo", "′")):
                raised = self.argument()
                above = raised if above is None else tag("mrow", above, raised)
            else:
                raise UnreadError(f"two {token} at one place")
        if below is not None and above is not None:
            return tag("msubsup", base, below, above)
        if below is not None:
            return tag("msub", base, below)
        return tag("msup", base, above) if above is not None else base

    def argument(self) -> Markup:
        """What a command or script takes: a group, or the one token that follows."""
        if self.peek() == "{":
            return self.group()
        if (token := self.peek()) is not None and len(token) > 1 and token[0].isdigit():
            self.tokens[self.place : self.place + 1] = list(token)  # x^12 is x^1 2
        return self.atom()

    def group(self) -> Markup:
        self.take()
        inside = self.row(lambda token: token == "}")
        if self.take() != "}":
            raise UnreadError("a brace is not closed")
        return inside

    def atom(self) -> Markup:
        token = self.take()
        if token == "{":
            self.place -= 1
            return self.group()
        if token[0].isdigit():
            return tag("mn", token)
        if token.startswith(r"\begin"):
            return self.environment(token)
        if token.startswith("\\"):
            return self.command(token)
        if token.isalpha():
            return tag("mi", token)
        if token in ("~", "\u00a0"):
            return tag("mspace", width="0.3em")
        if token == "$" or token in ("}", "&", "^", "_"):
            raise UnreadError(f"{token} is out of place")
        return tag("mo", {"-": "−", "*": "∗"}.get(token, token), stretchy="false" if token in "()[]|" else None)

    def command(self, token: str) -> Markup:
        name = token[1:]
        if name in LETTERS:
            return tag("mi", LETTERS[name])
        if name in OPERATORS:
            return tag("mo", OPERATORS[name])
        if name in FUNCTIONS:
            return tag("mi", name)
        if name in SPACES:
            return tag("mspace", width=SPACES[name])
        if name in STYLES:
            return tag("mstyle", self.argument(), style=STYLES[name] or None)
        if name in ACCENTS:
            base = self.argument()
            return tag("munder" if name.startswith("under") else "mover", base, tag("mo", ACCENTS[name]))
        if name in FENCED:
            return self.fence(name)
        if name in EMPTY:
            return tag("mrow")
        return self.structure(name)

    def structure(self, name: str) -> Markup:
        """A command that takes arguments."""
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            return tag("mfrac", self.argument(), self.argument())
        if name in ("binom", "dbinom", "tbinom"):
            over = tag("mfrac", self.argument(), self.argument(), linethickness="0")
            return tag("mrow", tag("mo", "("), over, tag("mo", ")"))
        if name == "sqrt":
            return self.root()
        if name in TEXTS:
            return tag("mtext", self.raw())
        if name in ("boxed", "fbox"):
            return tag("mrow", self.argument(), class_="boxed")
        if name in ("pmod", "bmod"):
            mod = tag("mi", "mod")
            if name == "bmod":
                return mod
            gap = tag("mspace", width="0.3em")
            return tag("mrow", tag("mo", "("), mod, gap, self.argument(), tag("mo", ")"))
        raise UnreadError(f"\\{name} is not known")

    def root(self) -> Markup:
        if self.peek() != "[":
            return tag("msqrt", self.argument())
        self.take()
        index = self.row(lambda token: token == "]")
        if self.take() != "]":
            raise UnreadError("the index of a root is not closed")
        return tag("mroot", self.argument(), index)

    def fence(self, name: str) -> Markup:
        said = self.take()
        mark = FENCES.get(said)
        if mark is None:
            raise UnreadError(f"\\{name} {said} is not known")
        sign = tag("mo", mark, stretchy="true") if mark else tag("mrow")
        if name != "left":
            return sign
        inside = self.row(lambda token: token == r"\right")
        if self.take() != r"\right":
            raise UnreadError(r"\left without \right")
        return tag("mrow", sign, inside, self.fence("right"))

    def raw(self) -> str:
        """The text of a group, as it stands; its spaces are lost with the tokens, so they come from the source."""
        if self.peek() != "{":
            return self.take()
        depth, taken = 0, []
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            taken.append(token)
            if depth == 0:
                break
        words = r"\s*".join(re.escape(token) for token in taken)
        found = re.search(words, self.source) if len(taken) < 300 else None
        text = found[0].strip()[1:-1] if found else " ".join(taken[1:-1])
        return text.replace("{", "").replace("}", "").replace("\\", "")

    def environment(self, token: str) -> Markup:
        name = token[token.index("{") + 1 : -1]
        if name not in MATRICES:
            raise UnreadError(f"the environment {name} is not known")
        if name == "array" and self.peek() == "{":
            self.raw()
        lines: list[list[Markup]] = [[]]
        while True:
            lines[-1].append(self.row(lambda t: t.startswith(r"\end")))
            said = self.take()
            if said == r"\\":
                lines.append([])
            elif said.startswith(r"\end"):
                break
            elif said != "&":
                raise UnreadError(f"{said} is out of place")
        if len(lines) > 1 and lines[-1] == [tag("mrow")]:
            lines.pop()
        grid = tag("mtable", *(tag("mtr", *(tag("mtd", cell) for cell in line)) for line in lines))
        left, right = MATRICES[name]
        signs = [tag("mo", sign, stretchy="true") if sign else tag("mrow") for sign in (left, right)]
        return tag("mrow", signs[0], grid, signs[1])
