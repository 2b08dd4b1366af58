r"""How DART-Math's reader takes an answer: as SymPy's LaTeX grammar does, here through our own parser.

That grammar reads as far as it can and ignores the rest (`204_5` is 204); every letter is a variable, `e` and `i` and
those of words among them; a name before a bracket is a function of it; what it has no rule for is a variable too.
"""

from __future__ import annotations

import re

from sq.eval.equal.lexer import FUNCTIONS, GREEK, Token, lex
from sq.eval.equal.parser import Parser
from sq.eval.equal.tree import Const, Node, Op, ParseError, Quantity, Rel, Seq, Sym, Text

_KNOWN = (FUNCTIONS | GREEK) - {"det", "cis"} | frozenset(
    "frac sqrt binom infty sum prod cdot times div lfloor rfloor lceil rceil le ge pi overline".split()
)
_SPELT = {"leq": "le", "leqslant": "le", "leqq": "le", "geq": "ge", "geqslant": "ge", "geqq": "ge", "neq": "ne"}
_RUN = re.compile(r"\\[A-Za-z]+|[A-Za-z]+")
_UNREAD = re.compile(r"\\\\|[&%#;@\"?]|\\\|")
_LEADING_ZERO = re.compile(r"(?<![\d.])0\d")
_CUT = re.compile(r"(?<=\d)(?<!_\d)(?<!_\d\d)_")
_PI = Sym("pi")


def expression(text: str) -> Node:
    """What the text starts with, as an expression or relation.

    Raises:
        ParseError: where the start is no mathematics, or the first of several alone would be read.
    """
    node = _start(text)
    if "," in text:
        try:
            first = _start(text.partition(",")[0])
        except ParseError:
            return node
        if node == first:
            raise ParseError("only the first of several is read")
    return node


def constant(node: Node) -> Node | None:
    """The node with its number pi, where it is a number made of sums, products, powers and roots alone; else None."""
    if isinstance(node, Op):
        if node.op not in ("add", "mul", "neg", "div", "pow", "sqrt", "root"):
            return None
        args = [constant(arg) for arg in node.args]
        return None if any(a is None for a in args) else Op(node.op, tuple(a for a in args if a is not None))
    if node == _PI:
        return Const("pi")
    return None if isinstance(node, Sym | Const) else node


def _start(text: str) -> Node:
    if _UNREAD.search(text):
        raise ParseError("a sign is not read")
    text = re.sub(r"(?<=[^\d.])\.(?!\d).*|\(\).*", "", text.replace("<=", r"\le ").replace(">=", r"\ge "))
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.replace("\\{", "{").replace("\\}", "}").replace("**", "^"))
    if _LEADING_ZERO.search(text):
        raise ParseError("a number starts with a zero")
    text = re.sub(r"(\\log\^\{1\})_(\d)", r"\1_{\2}", text)
    text = re.sub(r"(\d)(?=\\frac)", r"\1\\cdot ", text)
    cut = _CUT.search(text)
    if cut and "{" not in text[: cut.start()].replace("^{", ""):
        text = text[: cut.start()]
    tokens = [_variable(t) for t in lex(_RUN.sub(_letters, text), thousands=False)]
    parser = Parser(_RUN.sub(_letters, text), tokens)
    parser.cursor.calls = True
    return _plain(parser.item())


def _letters(match: re.Match[str]) -> str:
    """A word letter by letter; a command as it is where there is a rule for it, else as a variable."""
    run = match.group()
    if not run.startswith("\\"):
        return " ".join(run)
    name = _SPELT.get(run[1:], run[1:])
    return rf"\{name} " if name in _KNOWN or (name == "ne" and run == r"\neq") else rf"\mathfrak{{{name}}}"


def _variable(token: Token) -> Token:
    constant_letter = token.kind == "const" and token.text in ("e", "i", "pi")
    return token._replace(kind="name") if constant_letter else token


def _plain(node: Node) -> Node:
    """Without what the original has no notion of: units, words, lists, a logarithm to the base 10."""
    if isinstance(node, Quantity):
        return _plain(node.value)
    if isinstance(node, Op):
        return Op("ln" if node.op == "log" and len(node.args) == 1 else node.op, tuple(_plain(a) for a in node.args))
    if isinstance(node, Rel):
        return Rel(tuple(_plain(p) for p in node.parts), node.ops, ("",) * len(node.parts))
    if isinstance(node, Seq | Text):
        raise ParseError("a list or a word is no expression")
    return node
