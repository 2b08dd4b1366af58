"""The closed vocabulary of the arithmetic language: names, nouns and units, each with its class letter.

Fewer than three hundred words, so that each is one token and a model of three million parameters knows them all.
"""

from __future__ import annotations

HE = "Tom Ben Sam Max Leo Jack Omar Ivan Paul Luke".split()
SHE = "Ann Mia Eva Lily Zoe Sara Nina Rosa Emma Lucy".split()
GENDER = {name: "he" for name in HE} | {name: "she" for name in SHE}
NAMES = tuple(HE + SHE)
ITEMS = tuple("apples pears eggs nuts pens cards coins shells toys kites hats mugs balls stamps keys dolls".split())
PEOPLE = tuple("students kids players guests workers adults".split())
CONTAINERS = tuple("boxes bags jars baskets".split())
PLACES = tuple("park gym hall zoo cafe museum club library".split())
COLOURS = tuple("red blue green yellow white black".split())
SHAPES = tuple("garden yard field room lawn farm".split())
ANIMALS = tuple("dog goat pig calf pony lamb sheep wolf".split())
DISHES = tuple("cake pie loaf pizza stew salad".split())
UNITS = tuple("dollars points pages years people liters pounds meters miles inches days teams pieces weeks".split())

POOLS = {
    "A": NAMES,
    "I": ITEMS,
    "P": PEOPLE,
    "G": CONTAINERS,
    "L": PLACES,
    "X": COLOURS,
    "S": SHAPES,
    "V": ANIMALS,
    "N": DISHES,
}
"""Class letter -> its words."""

_IRREGULAR = {"people": "person", "boxes": "box", "inches": "inch"}


def singular(plural: str) -> str:
    """The singular of a noun of the language."""
    return _IRREGULAR.get(plural) or plural.removesuffix("s")


def noun(plural: str, count: object) -> str:
    """The form of `plural` that goes with `count`."""
    return singular(plural) if count == 1 else plural


SINGULAR = {word: singular(word) for word in (*ITEMS, *PEOPLE, *CONTAINERS, *UNITS)}
UNIT_OF = {SINGULAR[word]: word for word in UNITS}
FRACTIONS = {"half": (1, 2), "a third": (1, 3), "a quarter": (1, 4), "a fifth": (1, 5)}

CLASS_OF: dict[str, tuple[str, str]] = {}
"""Word -> (class letter, canonical value). Nouns are found in either number; the value is the plural."""
for _letter, _words in POOLS.items():
    for _word in _words:
        CLASS_OF[_word] = (_letter, _word)
        if _letter in "IPG":
            CLASS_OF[SINGULAR[_word]] = (_letter, _word)
CLASS_OF |= {"he": ("A", "he"), "she": ("A", "she")}
