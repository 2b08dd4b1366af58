"""Sentence kinds: several phrasings with slots, and what such a sentence does to the world.

A sentence is read by reducing it to a *skeleton*, names and nouns and numbers replaced by their class letters, and one
dictionary lookup: linear in its length, no backtracking, no surprise on arbitrary text.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sq.domains.arithmetic.lexicon import BASE, CLASS_OF, FRACTIONS, GENDER, SINGULAR, UNIT_OF, UNITS, noun
from sq.domains.arithmetic.world import Node, Number, World, plain

Slots = dict[str, Any]
Effect = Callable[[World, Slots], Node | None]

SLOT_CLASS = (
    dict.fromkeys("ABC", "A")
    | dict.fromkeys("nmkr", "#")
    | dict.fromkeys("def", "$")
    | dict.fromkeys("IJij", "I")
    | dict.fromkeys("Pp", "P")
    | dict.fromkeys("Gg", "G")
    | dict.fromkeys(["X", "Q"], "X")
    | dict.fromkeys(["D", "E"], "D")
    | dict.fromkeys(["Z", "W"], "Z")
    | dict.fromkeys(["V", "U", "T"], "V")
    | dict.fromkeys(["Y", "H"], "Y")
    | dict.fromkeys("Oo", "O")
    | dict.fromkeys(["K", "v"], "K")
    | {"L": "L", "S": "S", "F": "F", "M": "M", "N": "N"}
)
"""Slot name in a template -> class letter in a skeleton. A lower-case noun slot is rendered in the singular,
a lower-case verb slot in the base form."""
CLASSES = frozenset(SLOT_CLASS.values())

TOKEN = re.compile(
    r"(?P<money>\$-?\d{1,9}(?:\.\d{1,4})?(?!\.?\d)|some money\b)"
    r"|(?P<times>twice\b|\d{1,4} times\b)"
    r"|(?P<part>half\b|a third\b|a quarter\b|a fifth\b|two thirds\b|three quarters\b|[Aa] third\b|Half\b|[Aa] quarter\b"
    r"|[Aa] fifth\b|Two thirds\b|Three quarters\b)"
    r"|(?P<number>-?\d{1,9}(?:\.\d{1,4}|/\d{1,4})?(?![./]?\d)|(?:[Ss]ome|[Ss]everal|[Aa] few)\b)"
    r"|(?P<word>[A-Za-z]+)|(?P<other>\S)",
    re.ASCII,
)


@dataclass(frozen=True)
class Token:
    """One piece of a sentence: its class (or the word itself), its value, and where it stands."""

    shape: str
    value: Any
    start: int
    end: int


@dataclass(frozen=True)
class Template:
    """One phrasing: its skeleton for reading, its parts for writing."""

    text: str
    skeleton: str
    slots: tuple[str, ...]
    parts: tuple[tuple[str, str, str], ...]

    def render(self, slots: Slots) -> str:
        """Write the sentence. A noun after the number 1 is singular; "a" becomes "an" where it must."""
        out = []
        for kind, name, count in self.parts:
            if kind == "text":
                out.append(name)
            elif kind == "unit":
                out.append(noun(name, slots[count]))
            else:
                out.append(_write(name, slots, count))
        text = "".join(out)
        if " a " in text or text.startswith("A "):
            text = _AN.sub(r"\1n \2", text)
        return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Kind:
    """A sentence kind. `asks` marks the question sentences; `name` is "theme.what"."""

    name: str
    templates: tuple[Template, ...]
    effect: Effect
    asks: bool

    @property
    def theme(self) -> str:
        return self.name.partition(".")[0]


def kind(name: str, effect: Effect, *texts: str) -> Kind:
    """Build a kind from phrasings in which `[a|b]` stands for either."""
    templates = tuple(compile_template(text) for t in texts for text in expand(t))
    return Kind(name, templates, effect, templates[0].text.endswith("?"))


def expand(text: str) -> list[str]:
    """All the phrasings of "I [like|love] it"."""
    pieces = re.split(r"\[([^\]]*)\]", text)
    choices = [piece.split("|") if i % 2 else [piece] for i, piece in enumerate(pieces)]
    return [re.sub(r" +([ ?.])", r"\1", "".join(combination)) for combination in itertools.product(*choices)]


def compile_template(text: str) -> Template:
    """Prepare one phrasing for reading and for writing."""
    pieces = re.split(r"\{(\w+)\}", text)
    skeleton: list[str] = []
    slots: list[str] = []
    parts: list[tuple[str, str, str]] = []
    number, distance = "", 9
    for i, piece in enumerate(pieces):
        if i % 2:
            linked = number if distance <= 2 else ""
            parts.append(("slot", piece, linked))
            if piece in SLOT_CLASS:
                skeleton.append(SLOT_CLASS[piece])
                slots.append(_key(piece))
            else:
                skeleton.append("his")
            if SLOT_CLASS.get(piece) == "#":
                number, distance = piece, 0
            continue
        literal = [token.shape for token in lex(piece, first=i == 0)]
        assert CLASSES.isdisjoint(literal), f"{text!r} spells out a word that has a slot"
        skeleton.extend(literal)
        for word in re.findall(r"\W+|\w+", piece):
            distance = 9 if word == "of" else distance + word.isalpha()
            if word in UNITS and number and distance <= 2:
                parts.append(("unit", word, number))
            else:
                parts.append(("text", word, ""))
    return Template(text, " ".join(skeleton), tuple(slots), tuple(parts))


def lex(sentence: str, *, first: bool = True) -> list[Token]:
    """Cut a sentence into tokens. Names, nouns and numbers get a class letter and a value."""
    tokens: list[Token] = []
    for match in TOKEN.finditer(sentence):
        group, text = match.lastgroup, match.group()
        shape, value = _classify(group, text, first and not tokens)
        tokens.append(Token(shape, value, match.start(), match.end()))
    return tokens


def scan(sentence: str) -> tuple[str, list[Any]]:
    """The skeleton of a sentence and the values of its slots: `lex` without the positions, for speed."""
    matches = [(match.lastgroup, match.group()) for match in TOKEN.finditer(sentence)]
    pairs = [_classify(group, text, i == 0) for i, (group, text) in enumerate(matches)]
    return " ".join([shape for shape, _ in pairs]), [value for shape, value in pairs if shape in CLASSES]


@functools.lru_cache(maxsize=8192)
def _classify(group: str | None, text: str, opening: bool) -> tuple[str, Any]:
    return _SHAPE[group or "other"](text, opening)


def _word(text: str, opening: bool) -> tuple[str, Any]:
    if opening and text not in GENDER:
        text = text[0].lower() + text[1:]
    known = CLASS_OF.get(text)
    if known is not None:
        return known
    if text == "an":
        return "a", None
    if text in ("his", "her"):
        return "his", None
    return UNIT_OF.get(text, text) if len(text) > 1 else text.lower(), None


def _number(text: str, opening: bool) -> tuple[str, Any]:
    if text[-1].isalpha():
        return "#", None
    try:
        return "#", plain(Fraction(text))
    except ZeroDivisionError:
        return text, None


def _money(text: str, opening: bool) -> tuple[str, Any]:
    return ("$", None) if text == "some money" else ("$", plain(Fraction(text[1:])))


def _times(text: str, opening: bool) -> tuple[str, Any]:
    return "M", 2 if text == "twice" else int(text.split()[0])


def _part(text: str, opening: bool) -> tuple[str, Any]:
    return "F", FRACTIONS[text[0].lower() + text[1:]]


_SHAPE: dict[str, Callable[[str, bool], tuple[str, Any]]] = {
    "money": _money,
    "times": _times,
    "part": _part,
    "number": _number,
    "word": _word,
    "other": lambda text, opening: ("?" if text in "#$" else text, None),
}
_AN = re.compile(r"\b([Aa]) ([aeiou])")
_PART_WORDS = {pair: words for words, pair in FRACTIONS.items()}


def _key(name: str) -> str:
    """{i} is {I} in the singular; {o} and {v} are the base forms of the verbs {O} and {K}."""
    return "K" if name == "v" else name.upper() if name in "ijpgo" else name


def _write(name: str, slots: Slots, count: str) -> str:
    if name == "his":
        return "his" if GENDER.get(slots["A"], slots["A"]) == "he" else "her"
    value = slots[_key(name)]
    letter = SLOT_CLASS[name]
    if letter == "$":
        return f"${value}"
    if letter == "F":
        return _PART_WORDS[value]
    if letter == "M":
        return "twice" if value == 2 else f"{value} times"
    if name in "ov":
        return BASE[value]
    if letter in "IPG":
        return SINGULAR[value] if name.islower() or (count and slots[count] == 1) else str(value)
    return str(value)


def index(kinds: Iterable[Kind]) -> dict[str, tuple[Kind, Template]]:
    """Skeleton -> kind. Two kinds that do different things with the same sentence are a defect of the language."""
    by_skeleton: dict[str, tuple[Kind, Template]] = {}
    for each in kinds:
        for template in each.templates:
            old = by_skeleton.setdefault(template.skeleton, (each, template))
            if old[0].effect is not each.effect or old[1].slots != template.slots:
                raise AssertionError(f"{each.name} and {old[0].name} share the skeleton {template.skeleton!r}")
    return by_skeleton


def format_number(value: Number) -> str:
    """A number as it is written in questions and answers: 12, 3/4."""
    return str(value)
