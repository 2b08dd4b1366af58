r"""From the text of an answer to tokens: numbers, names, words, commands and signs.

Letters written side by side are a product (`xy`), a function (`sin`), a unit (`cm`) or a word (`even`); here that is
decided, so that the parser has one kind of token for each. Everything is bounded: tokens, digits, length.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sq.eval.equal.tree import ParseError
from sq.eval.equal.units import SINGLE, UNITS

MAX_TOKENS = 1_500
MAX_DIGITS = 2_000

FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc asin acos atan sinh cosh tanh coth sech csch "
    "arcsinh arccosh arctanh log ln lg exp cis sqrt abs det floor ceil".split()
)
GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega hbar ell".split()
)
MARKS = frozenset(
    "bar hat vec tilde dot ddot overline underline overrightarrow widehat mathbf mathcal mathfrak boldmath".split()
)
SIGNS = frozenset("odot oplus ominus otimes star bullet dagger ddagger Re Im aleph diamond square".split())
"""Signs that mean what their author says, read as names: `R_{\\odot}`."""
_PLAIN = {"pi": "pi", "infinity": "inf", "inf": "inf", "oo": "inf"}
_CONSTANTS = {"pi": "pi", "infty": "inf", "emptyset": "emptyset", "imath": "i", "ldots": "dots", "e": "e"}
_RELATIONS = {
    "le": "<=", "ge": ">=", "ne": "!=", "in": "in", "approx": "~", "equiv": "=", "to": "=", "mapsto": "=",
    "rightarrow": "=", "sim": "~", "simeq": "~", "cong": "cong", "colon": ":", "propto": "propto",
}  # fmt: skip
_OPERATORS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "pm": "pm", "mp": "mp", "cup": "cup", "cap": "cap",
    "setminus": "setminus", "lor": "or", "vee": "or", "land": "and", "wedge": "and", "circ": "degree",
    "degree": "degree", "mid": "|", "vert": "|", "langle": "<<", "rangle": ">>", "lbrace": "\\{", "rbrace": "\\}",
    "lfloor": "lfloor", "rfloor": "rfloor", "lceil": "lceil", "rceil": "rceil", "prime": "'",
    "lbrack": "[", "rbrack": "]", "bigcup": "cup", "union": "cup",
}  # fmt: skip
_STRUCTURE = frozenset(
    "frac sqrt binom sum prod begin end pmod bmod mod text mathrm operatorname mathbb mathsf angle triangle".split()
)

_TOKEN = re.compile(
    r"(?P<thousands>[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?![\d,])|[1-9]\d{0,2}(?: \d{3})+(?:\.\d+)?(?!\d| \d))"
    r"|(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+(?![\d.]))?)"
    r"|(?P<row>\\\\)|\\(?P<command>[A-Za-z]+)|(?P<brace>\\[{}|])"
    r"|(?P<letters>[A-Za-z]+)|(?P<dots>\.\.\.+)|(?P<sign>[-+*/^_=<>(){}\[\]|,;:!%&'])|(?P<space>\s+)",
    re.ASCII,
)
_TEXT_GROUP = re.compile(r"\s*\{([^{}]*)\}")


class Token(NamedTuple):
    """One token: its kind (num, name, const, func, word, op, rel, sep, cmd, end), its text and where it starts."""

    kind: str
    text: str
    start: int
    end: int
    spaced: bool


def lex(text: str, *, thousands: bool) -> list[Token]:
    """Tokens of a tidy answer.

    Args:
        text: what `normalise.tidy` returned.
        thousands: read `1,234` outside brackets as one number rather than as a list of two.

    Raises:
        ParseError: for a sign that is not mathematics, or an answer with too many tokens.
    """
    tokens: list[Token] = []
    at, depth, spaced = 0, 0, False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ParseError(f"{text[at]!r} is not read as mathematics")
        kind, value, end = match.lastgroup or "", match.group(match.lastgroup or 0), match.end()
        if kind == "thousands" and (depth or not (thousands or " " in value) or not _fresh(tokens)):
            kind, value = "number", re.split("[, ]", value)[0]
            end = at + len(value)
        if kind == "space" or value == "usd":
            spaced, at = True, end
            continue
        found, end = _tokens(kind, value, text, at, end, spaced, tokens)
        depth += sum((t.text in ("(", "[", "\\{")) - (t.text in (")", "]", "\\}")) for t in found if t.kind == "op")
        depth = max(depth, 0)
        tokens.extend(found)
        at, spaced = end, False
        if len(tokens) > MAX_TOKENS:
            raise ParseError("the answer has too many parts")
    tokens.append(Token("end", "", len(text), len(text), spaced))
    return tokens


def _fresh(tokens: list[Token]) -> bool:
    return not tokens or (tokens[-1].kind != "num" and tokens[-1].text not in ("_", "^"))


def _tokens(
    kind: str, value: str, text: str, at: int, end: int, spaced: bool, before: list[Token]
) -> tuple[list[Token], int]:
    if kind in ("thousands", "number"):
        if len(value) > MAX_DIGITS:
            raise ParseError("a number has too many digits")
        return [Token("num", value.replace(",", "").replace(" ", ""), at, end, spaced)], end
    if kind == "command":
        return _command(value, text, at, end, spaced, before)
    if kind == "letters":
        return _letters(value, at, end, spaced, before), end
    if kind == "dots":
        return [Token("const", "dots", at, end, spaced)], end
    if kind == "brace":
        return [Token("op", "\\" + value[-1], at, end, spaced)], end
    if kind == "sign" and value in "<>=":
        return [Token("rel", value, at, end, spaced)], end
    if kind == "sign" and value in ",;":
        return [Token("sep", value, at, end, spaced)], end
    return [Token("op", value, at, end, spaced)], end


def _command(name: str, text: str, at: int, end: int, spaced: bool, before: list[Token]) -> tuple[list[Token], int]:
    if name in ("text", "mathrm", "operatorname", "mathsf", "rm", "mathit"):
        group = _TEXT_GROUP.match(text, end)
        if group is not None:
            token = _text(group.group(1), name, at, group.end(), spaced, _after_value(before))
            return [token] if token.text else [], group.end()
        return [], end
    if name in _OPERATORS:
        kind = "sep" if _OPERATORS[name] in ("or", "and", ",") else "op"
        return [Token(kind, _OPERATORS[name], at, end, spaced)], end
    if name in _RELATIONS:
        return [Token("rel", _RELATIONS[name], at, end, spaced)], end
    if name in _CONSTANTS:
        return [Token("const", _CONSTANTS[name], at, end, spaced)], end
    if name in FUNCTIONS and name != "sqrt":
        return [Token("func", name, at, end, spaced)], end
    if name == "Omega" and before and before[-1].kind == "num":  # ohms
        return [Token("word", "ohm", at, end, spaced)], end
    if name in GREEK:
        return [Token("name", name, at, end, spaced)], end
    if name in MARKS or name in _STRUCTURE:
        return [Token("cmd", name, at, end, spaced)], end
    if name in SIGNS:
        return [Token("name", name, at, end, spaced)], end
    raise ParseError(f"\\{name} is not read here")


def _text(content: str, command: str, at: int, end: int, spaced: bool, after_value: bool) -> Token:
    plain = " ".join(content.split()).strip(" .,:")
    lower = plain.lower()
    if lower in ("and", "or"):
        return Token("sep", lower, at, end, spaced)
    if plain in FUNCTIONS and not (after_value and lower in UNITS):
        return Token("func", plain, at, end, spaced)
    if re.fullmatch(r"-?\d+(\.\d+)?", plain, re.ASCII) and plain[0] != "-" and len(plain) < MAX_DIGITS:
        return Token("num", plain, at, end, spaced)
    if len(plain) == 1 and plain.isalpha() and content == plain:
        return Token("const" if plain in "ei" else "letter", plain, at, end, spaced)
    return Token("word", lower if command == "operatorname" else plain, at, end, spaced)


def _after_value(before: list[Token]) -> bool:
    if not before:
        return False
    at_divisor = len(before) > 1 and before[-1].text == "/" and before[-2].kind == "word"
    return at_divisor or before[-1].kind in ("num", "const", "name", "word") or before[-1].text in (")", "}", "degree")


def _letters(run: str, at: int, end: int, spaced: bool, before: list[Token]) -> list[Token]:
    lower = run.lower()
    if lower in ("and", "or"):
        return [Token("sep", lower, at, end, spaced)]
    if run in FUNCTIONS and not (lower in UNITS and _after_value(before)):
        return [Token("cmd" if run == "sqrt" else "func", run, at, end, spaced)]
    if run in _PLAIN:
        return [Token("const", _PLAIN[run], at, end, spaced)]
    if run in SINGLE and len(before) > 1 and before[-1].text == "/" and before[-2].kind == "word":
        return [Token("word", run, at, end, spaced)]
    if run in GREEK and len(run) > 2:
        return [Token("name", run, at, end, spaced)]
    after_value = _after_value(before)
    if (
        len(run) > 1
        and lower in UNITS
        and after_value
        and (spaced or before[-1].kind == "num" or before[-1].text == "/")
    ):
        return [Token("word", run, at, end, spaced)]
    if len(run) >= 4 or (len(run) == 3 and after_value and spaced and run.islower() and set(run) & set("aeiou")):
        return [Token("word", run, at, end, spaced)]
    return [
        Token("const" if c in "ei" else "name", c, at + k, at + k + 1, spaced and k == 0) for k, c in enumerate(run)
    ]
