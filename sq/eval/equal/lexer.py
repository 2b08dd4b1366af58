r"""From the text of an answer to tokens: numbers, names, words, commands and signs.

Letters written side by side are a product (`xy`), a function (`sin`), a unit (`cm`) or a word (`even`); here that is
decided, so that the parser has one kind of token for each. Everything is bounded: tokens, digits, length.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sq.eval.equal.tree import ParseError
from sq.eval.equal.units import SINGLE, UNITS, canonical, is_symbol

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
    "le": "<=", "ge": ">=", "ne": "!=", "in": "in", "approx": "~", "equiv": "equiv", "to": "=", "mapsto": "=",
    "rightarrow": "=", "sim": "sim", "simeq": "~", "cong": "cong", "colon": ":", "propto": "propto",
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

_COMMANDS: dict[str, tuple[str, str]] = {
    **{name: ("name", name) for name in SIGNS | GREEK},
    **{name: ("cmd", name) for name in MARKS | _STRUCTURE},
    **{name: ("func", name) for name in FUNCTIONS - {"sqrt"}},
    **{name: ("const", text) for name, text in _CONSTANTS.items()},
    **{name: ("rel", text) for name, text in _RELATIONS.items()},
    **{name: ("sep" if text in ("or", "and") else "op", text) for name, text in _OPERATORS.items()},
}
"""The kind and text of a command's token."""

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
        if kind == "space" or (kind == "command" and value == "usd"):
            spaced, at = True, end
            continue
        if kind == "command" and value in ("text", "mathrm", "operatorname", "mathsf", "rm", "mathit"):
            group = _TEXT_GROUP.match(text, end)
            pairs = [_upright(group.group(1), value, tokens)] if group else []
            pairs, end = [pair for pair in pairs if pair[1]], group.end() if group else end
        else:
            pairs = _read(kind, value, spaced, tokens)
        for place, (kind, value) in enumerate(pairs):
            if kind == "op":
                depth = max(0, depth + (value in ("(", "[", "\\{")) - (value in (")", "]", "\\}")))
            ends = end if len(pairs) == 1 else at + place + 1
            tokens.append(Token(kind, value, at + place, ends, spaced and place == 0))
        at, spaced = end, False
        if len(tokens) > MAX_TOKENS:
            raise ParseError("the answer has too many parts")
    tokens.append(Token("end", "", len(text), len(text), spaced))
    return tokens


def _fresh(tokens: list[Token]) -> bool:
    return not tokens or (tokens[-1].kind != "num" and tokens[-1].text not in ("_", "^"))


def _read(kind: str, value: str, spaced: bool, before: list[Token]) -> list[tuple[str, str]]:
    """The kind and text of the tokens that a match stands for: letters may be several."""
    if kind in ("thousands", "number"):
        if len(value) > MAX_DIGITS:
            raise ParseError("a number has too many digits")
        return [("num", value.replace(",", "").replace(" ", ""))]
    if kind == "letters":
        return _letters(value, spaced, before)
    if kind == "command":
        if value == "Omega" and before and before[-1].kind == "num":
            return [("word", "ohm")]
        if value not in _COMMANDS:
            raise ParseError(f"\\{value} is not read here")
        return [_COMMANDS[value]]
    if kind == "dots":
        return [("const", "dots")]
    if kind == "brace":
        return [("op", "\\" + value[-1])]
    return [("rel" if value in "<>=" else "sep" if value in ",;" else "op", value)]


def _upright(content: str, command: str, before: list[Token]) -> tuple[str, str]:
    """What stands in `\\text{}` and its kin."""
    plain = " ".join(content.split()).strip(" .,:")
    lower = plain.lower()
    if lower in ("and", "or"):
        return "sep", lower
    if plain in FUNCTIONS and not (lower in UNITS and _after_value(before)):
        return "func", plain
    if re.fullmatch(r"\d+(\.\d+)?", plain, re.ASCII) and len(plain) < MAX_DIGITS:
        return "num", plain
    if len(plain) == 1 and plain.isalpha() and content == plain:
        return "const" if plain in "ei" else "letter", plain
    return "word", lower if command == "operatorname" else plain


def _after_value(before: list[Token]) -> bool:
    if not before:
        return False
    at_divisor = len(before) > 1 and before[-1].text == "/" and before[-2].kind == "word"
    return at_divisor or before[-1].kind in ("num", "const", "name", "word") or before[-1].text in (")", "}", "degree")


def _in_unit(before: list[Token], spaced: bool) -> bool:
    """Whether a letter goes on with a unit: the `m` and the `s` of `5 kg m/s^2`."""
    at = len(before) - 1
    joined = at > 0 and before[at].text in ("/", "*")
    at -= joined
    while at > 0 and (
        before[at].text in ("{", "}", "-", "^") or (before[at].kind == "num" and _in_power(before[at - 1]))
    ):
        at -= 1
    unit = before[at] if at >= 0 else None
    slash = joined and before[-1].text == "/" and at == len(before) - 2
    return bool(unit and unit.kind == "word" and (slash or ((joined or spaced) and canonical(unit.text))))


def _in_power(token: Token) -> bool:
    return token.text in ("^", "{", "-")


def _letters(run: str, spaced: bool, before: list[Token]) -> list[tuple[str, str]]:
    lower, after_value = run.lower(), _after_value(before)
    if lower in ("and", "or"):
        return [("sep", lower)]
    if run in FUNCTIONS and not (lower in UNITS and after_value):
        return [("cmd" if run == "sqrt" else "func", run)]
    if run in _PLAIN:
        return [("const", _PLAIN[run])]
    if run in SINGLE and _in_unit(before, spaced):
        return [("word", run)]
    if run in GREEK and len(run) > 2:
        return [("name", run)]
    close = spaced or (after_value and (before[-1].kind == "num" or before[-1].text == "/"))
    if len(run) > 1 and is_symbol(run, spaced=spaced) and after_value and close:
        return [("word", run)]
    if len(run) >= 4 or (len(run) == 3 and after_value and spaced and run.islower() and set(run) & set("aeiou")):
        return [("word", run)]
    return [("const" if letter in "ei" else "name", letter) for letter in run]
