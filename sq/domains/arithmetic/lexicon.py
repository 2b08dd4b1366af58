"""The closed vocabulary of the arithmetic language: names, nouns and units, each with its class letter.

A few hundred words in all, so that a tokenizer of about a thousand pieces encodes a question tightly and a model of
three million parameters can learn it.
"""

from __future__ import annotations

HE = (
    "Tom Ben Sam Max Leo Jack Omar Ivan Paul Luke Adam Noah Eric Hugo Carl Dan Finn Gus Henry Ian Joe Ken Liam "
    "Nick Oscar Pete Ryan Seth Theo Victor Wes Zack Amir Raj"
).split()
SHE = (
    "Ann Mia Eva Lily Zoe Sara Nina Rosa Emma Lucy Ruby Kate Jane Maya Anna Clara Dora Ella Fay Gina Hana Iris "
    "June Kim Lena Mary Nora Olga Pam Rita Sue Tina Uma Vera"
).split()
GENDER = {name: "he" for name in HE} | {name: "she" for name in SHE}
NAMES = tuple(HE + SHE)

FOODS = tuple(
    "apples oranges pears plums peaches lemons cookies muffins eggs carrots candies nuts cherries bananas rolls "
    "tomatoes potatoes donuts".split()
)
THINGS = tuple(
    "marbles stickers pencils pens cards coins stamps beads shells toys balloons balls buttons stones photos crayons "
    "rings dolls kites hats mugs bricks candles magnets badges keys blocks sticks bows bells bottles caps".split()
)
PLANTS = tuple("tulips roses trees daisies bushes lilies flowers vines".split())
ITEMS = FOODS + THINGS
PEOPLE = tuple("students children adults players dancers guests visitors workers kids actors singers campers".split())
CONTAINERS = tuple("boxes bags jars baskets tubs trays bowls crates bins cases".split())
PLACES = tuple("park library museum gym hall zoo theater cafe camp club".split())
COLOURS = tuple("red blue green yellow white black pink purple".split())
DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
SHAPES = tuple("garden yard field room rug lawn patio farm".split())
STUFFS = tuple("flour sugar milk rice oats cream".split())
ANIMALS = tuple("dog goat pig calf pony lamb sheep deer wolf seal".split())
TASKS = tuple("homework piano chores math soccer chess reading art".split())
DISHES = tuple("pizza pie cake".split())
MOVES = {"walks": "walk", "runs": "run", "rides": "ride", "drives": "drive"}
MAKES = {"makes": "make", "collects": "collect", "gathers": "gather"}
BASE = MOVES | MAKES
"""Verbs that have a class of their own, so that a question can be asked in the verb of the story."""

_IRREGULAR = {
    "peaches": "peach",
    "candies": "candy",
    "cherries": "cherry",
    "tomatoes": "tomato",
    "potatoes": "potato",
    "daisies": "daisy",
    "bushes": "bush",
    "lilies": "lily",
    "children": "child",
    "people": "person",
    "boxes": "box",
    "inches": "inch",
    "feet": "foot",
    "batches": "batch",
}
UNITS = tuple(
    "hours days weeks miles meters pounds pages points minutes degrees liters cups years slices dollars games rounds "
    "rows batches pieces inches seats teams groups stops people".split()
)


def singular(plural: str) -> str:
    """The singular of a noun of the language."""
    return _IRREGULAR.get(plural) or plural.removesuffix("s")


def noun(plural: str, count: object) -> str:
    """The form of `plural` that goes with `count`."""
    return singular(plural) if count == 1 else plural


SINGULAR = {word: singular(word) for word in (*ITEMS, *PLANTS, *PEOPLE, *CONTAINERS, *UNITS)}
UNIT_OF = {SINGULAR[word]: word for word in UNITS}
FRACTIONS = {
    "half": (1, 2),
    "a third": (1, 3),
    "a quarter": (1, 4),
    "a fifth": (1, 5),
    "two thirds": (2, 3),
    "three quarters": (3, 4),
}

CLASS_OF: dict[str, tuple[str, str]] = {}
"""Word -> (class letter, canonical value). Nouns are found in either number; the value is the plural."""
for _letter, _words in {
    "A": NAMES,
    "I": (*ITEMS, *PLANTS),
    "P": PEOPLE,
    "G": CONTAINERS,
    "L": PLACES,
    "X": COLOURS,
    "D": DAYS,
    "S": SHAPES,
    "Z": STUFFS,
    "V": ANIMALS,
    "Y": TASKS,
    "N": DISHES,
    "O": MOVES,
    "K": MAKES,
}.items():
    for _word in _words:
        CLASS_OF[_word] = (_letter, _word)
        if _letter in "IPG":
            CLASS_OF[SINGULAR[_word]] = (_letter, _word)
        if _letter in "OK":
            CLASS_OF[BASE[_word]] = (_letter, _word)
CLASS_OF |= {"he": ("A", "he"), "she": ("A", "she")}
