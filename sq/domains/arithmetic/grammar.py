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

from sq.domains.arithmetic.lexicon import CLASS_OF, FRACTIONS, GENDER, SINGULAR, UNIT_OF, UNITS, noun
from sq.domains.arithmetic.world import Node, World, plain

Slots = dict[str, Any]
Effect = Callable[[World, Slots], Node | None]

SLOT_CLASS = (
    dict.fromkeys("AB", "A")
    | dict.fromkeys("nmk", "#")
    | dict.fromkeys("IJij", "I")
    | dict.fromkeys("Pp", "P")
    | dict.fromkeys("LK", "L")
    | dict.fromkeys("XQ", "X")
    | dict.fromkeys("VU", "V")
    | dict.fromkeys("NO", "N")
    | {"G": "G", "S": "S", "F": "F", "M": "M"}
)
"""Slot name in a template -> class letter in a skeleton. A lower-case noun slot is rendered in the singular."""
CLASSES = frozenset(SLOT_CLASS.values())

TOKEN = re.compile(
    r"(?P<times>twice\b|\d{1,4} times\b)"
    r"|(?P<part>(?:[Hh]alf|[Aa] third|[Aa] quarter|[Aa] fifth)\b)"
    r"|(?P<number>-?\d{1,9}(?:\.\d{1,4}|/\d{1,4})?(?![./]?\d)|(?:[Ss]ome|[Ss]everal)\b)"
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
        """Write the sentence. A noun after the number 1 is singular."""
        out = []
        for kind, name, count in self.parts:
            if kind == "text":
                out.append(name)
            elif kind == "unit":
                out.append(noun(name, slots[count]))
            else:
                out.append(_write(name, slots, count))
        text = "".join(out)
        return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Role:
    """What sentences of a kind are for.

    Attributes:
        effect: what it does to a theme's quantity.
        cost: operations that such a sentence brings.
        states: it says outright how large a quantity is, so saying it again with another number is a contradiction.
        compares: it says how large a quantity is by another one.
        changes: it changes a quantity that is known.
        takes: it takes from that quantity, which can become too small.
        asks: it is the question.
        pair: it speaks of two of a kind.
    """

    name: str
    effect: Callable[[Any], Effect]
    cost: int = 0
    states: bool = False
    compares: bool = False
    changes: bool = False
    takes: bool = False
    asks: bool = False
    pair: bool = False


@dataclass(frozen=True)
class Kind:
    """A sentence kind of a theme: its role, its phrasings, its effect."""

    theme: str
    role: Role
    templates: tuple[Template, ...]
    effect: Effect


def kind(theme: str, role: Role, quantity: object, texts: Iterable[str]) -> Kind:
    """Build a kind from phrasings in which `[a|b]` stands for either."""
    templates = tuple(compile_template(text) for t in texts for text in expand(t))
    return Kind(theme, role, templates, role.effect(quantity))


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
            parts.append(("slot", piece, number if distance <= 2 else ""))
            skeleton.append(SLOT_CLASS[piece])
            slots.append(_key(piece))
            if SLOT_CLASS[piece] == "#":
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
        shape, value = _classify(match.lastgroup, match.group(), first and not tokens)
        tokens.append(Token(shape, value, match.start(), match.end()))
    return tokens


@functools.lru_cache(maxsize=8192)
def _classify(group: str | None, text: str, opening: bool) -> tuple[str, Any]:
    if group == "word":
        return _word(text, opening)
    if group == "times":
        return "M", 2 if text == "twice" else int(text.split()[0])
    if group == "part":
        return "F", FRACTIONS[text[0].lower() + text[1:]]
    if group == "number":
        return _number(text)
    return "?" if text == "#" else text, None


def _word(text: str, opening: bool) -> tuple[str, Any]:
    if opening and text not in GENDER:
        text = text[0].lower() + text[1:]
    known = CLASS_OF.get(text)
    if known is not None:
        return known
    return UNIT_OF.get(text, text) if len(text) > 1 else text.lower(), None


def _number(text: str) -> tuple[str, Any]:
    if text[-1].isalpha():
        return "#", None
    try:
        return "#", plain(Fraction(text))
    except ZeroDivisionError:
        return text, None


_PART_WORDS = {pair: words for words, pair in FRACTIONS.items()}


def _key(name: str) -> str:
    """{i} is {I} in the singular."""
    return name.upper() if name in "ijp" else name


def _write(name: str, slots: Slots, count: str) -> str:
    value = slots[_key(name)]
    letter = SLOT_CLASS[name]
    if letter == "F":
        return _PART_WORDS[value]
    if letter == "M":
        return "twice" if value == 2 else f"{value} times"
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
                raise AssertionError(f"{each.theme} and {old[0].theme} share the skeleton {template.skeleton!r}")
    return by_skeleton
