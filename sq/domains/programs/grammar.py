"""The language of the small programming tasks: sentences, what each does to the result, and the line of Python for it.

A task names a function and its parameters, says what the result starts from, changes it step by step, and returns it:
"Write a function total that takes two integers a and b. Add a and b. Multiply the result by 3. Return the result."
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NAMES = ("solve",)
"""One name in tasks made here, any in those judged: a tiny model is long in learning to copy it."""
NUMBERS = ("a", "b", "c")
LISTS = ("xs",)
STRANGERS = "k m n p x y z nums items values".split()
"""Names that no parameter of ours has. Ours are few, so that a tiny model learns early what stands for what."""
INDENT = " "
"""One space, for each is a token."""
LAST_LINE = f"{INDENT}return r"
VAGUE = ("some number", "a few", "a number")
"""What stands where a number was left out."""

Args = dict[str, int | list[int]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of sentence. In `phrases` and `code`, {n} is an operand, {a} and {b} are parameters, {l} is a list.

    Attributes:
        name: what it is called.
        phrases: ways to say it; the first is the usual one.
        code: what the result becomes, in Python, where the result is `r`.
        does: the same, computed here from the result and the values of the slots.
        steps: operations it counts for.
        starts: whether it gives the first value.
        numbers: the range of a stated operand; no parameter may stand there where `fixed`.
        unless: the Python condition on which the sentence changes anything; none: always.
    """

    name: str
    phrases: tuple[str, ...]
    code: str
    does: Callable[..., int]
    steps: int = 1
    starts: bool = False
    numbers: tuple[int, int] = (1, 20)
    fixed: bool = False
    unless: str = ""


STARTS: tuple[Kind, ...] = (
    Kind(name="take", phrases=("Start with {a}.", "Take {a}."), code="{a}", does=lambda a: a, steps=0, starts=True),
    Kind(name="sum", phrases=("Add {a} and {b}.", "Take the sum of {a} and {b}."), code="{a} + {b}",
         does=lambda a, b: a + b, starts=True),
    Kind(name="difference", phrases=("Subtract {b} from {a}.", "Take {a} minus {b}."), code="{a} - {b}",
         does=lambda a, b: a - b, starts=True),
    Kind(name="product", phrases=("Multiply {a} by {b}.", "Take the product of {a} and {b}."), code="{a} * {b}",
         does=lambda a, b: a * b, starts=True),
    Kind(name="larger", phrases=("Take the larger of {a} and {b}.",), code="max({a}, {b})", does=max, starts=True),
    Kind(name="smaller", phrases=("Take the smaller of {a} and {b}.",), code="min({a}, {b})", does=min, starts=True),
    Kind(name="list sum", phrases=("Add up the numbers in {l}.", "Take the sum of {l}."), code="sum({l})",
         does=sum, starts=True),
    Kind(name="list max", phrases=("Take the largest number in {l}.",), code="max({l})", does=max,
         starts=True),
    Kind(name="list min", phrases=("Take the smallest number in {l}.",), code="min({l})", does=min,
         starts=True),
    Kind(name="list length", phrases=("Count the numbers in {l}.",), code="len({l})", does=len,
         starts=True),
    Kind(name="list first", phrases=("Take the first number in {l}.",), code="{l}[0]", does=lambda v: v[0],
         starts=True),
    Kind(name="list last", phrases=("Take the last number in {l}.",), code="{l}[-1]", does=lambda v: v[-1],
         starts=True),
    Kind(name="list even", phrases=("Count the even numbers in {l}.",), code="sum(v % 2 == 0 for v in {l})",
         does=lambda given: sum(v % 2 == 0 for v in given), starts=True),
    Kind(name="list odd", phrases=("Count the odd numbers in {l}.",), code="sum(v % 2 == 1 for v in {l})",
         does=lambda given: sum(v % 2 == 1 for v in given), starts=True),
)  # fmt: skip
CHANGES: tuple[Kind, ...] = (
    Kind(name="add", phrases=("Add {n} to the result.", "Then add {n}."), code="r + {n}", does=lambda r, n: r + n),
    Kind(name="subtract", phrases=("Subtract {n} from the result.", "Then subtract {n}."), code="r - {n}",
         does=lambda r, n: r - n),
    Kind(name="multiply", phrases=("Multiply the result by {n}.", "Then multiply by {n}."), code="r * {n}",
         does=lambda r, n: r * n, numbers=(2, 9)),
    Kind(name="divide", phrases=("Divide the result by {n} and round down.",), code="r // {n}",
         does=lambda r, n: r // n, numbers=(2, 9), fixed=True),
    Kind(name="remainder", phrases=("Take the remainder of the result after division by {n}.",), code="r % {n}",
         does=lambda r, n: r % n, numbers=(2, 9), fixed=True),
    Kind(name="square", phrases=("Square the result.",), code="r * r", does=lambda r: r * r),
    Kind(name="absolute", phrases=("Take the absolute value of the result.",), code="abs(r)", does=abs),
    Kind(name="negate", phrases=("Change the sign of the result.",), code="-r", does=lambda r: -r),
    Kind(name="at most", phrases=("If the result is above {n}, make it {n}.",), code="min(r, {n})", does=min,
         numbers=(5, 50)),
    Kind(name="at least", phrases=("If the result is below {n}, make it {n}.",), code="max(r, {n})", does=max,
         numbers=(0, 20)),
    Kind(name="halve", phrases=("If the result is even, halve it.",), code="r // 2", unless="r % 2 == 0",
         does=lambda r: r // 2 if r % 2 == 0 else r),
    Kind(name="odd add", phrases=("If the result is odd, add {n} to it.",), code="r + {n}", unless="r % 2 == 1",
         does=lambda r, n: r + n if r % 2 == 1 else r, numbers=(1, 9)),
)  # fmt: skip
KINDS = STARTS + CHANGES
END = "Return the result."
HEADER = "Write a function {name} that takes {params}."

_WORD = r"([a-z]\w{0,9})"
_PARAMS = (
    (re.compile(f"an integer {_WORD}"), (int,)),
    (re.compile(f"two integers {_WORD} and {_WORD}"), (int, int)),
    (re.compile(f"three integers {_WORD}, {_WORD} and {_WORD}"), (int, int, int)),
    (re.compile(f"a list of integers {_WORD}"), (list,)),
    (re.compile(f"a list of integers {_WORD} and an integer {_WORD}"), (list, int)),
)
_HEADER = re.compile(r"Write a function ([a-z]\w{0,20}) that takes ([^.]{1,80})\.")
_OPERAND = r"(-?\d{1,4}|[a-z]\w{0,9}|" + "|".join(VAGUE) + ")"
_SLOT = re.compile(r"\{([nabl])\}")


@dataclass(frozen=True, kw_only=True)
class Header:
    """The function and its parameters, each with its kind."""

    name: str
    params: dict[str, type]

    def __str__(self) -> str:
        return HEADER.format(name=self.name, params=format_params(self.params))


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence understood: its kind, the phrase used, and the words in its slots."""

    kind: Kind
    slots: dict[str, str]
    phrase: int = 0

    def __str__(self) -> str:
        return self.kind.phrases[self.phrase].format(**self.slots)

    def lines(self) -> list[str]:
        """Its lines of Python."""
        line = f"r = {self.kind.code.format(**self.slots)}"
        return [f"if {self.kind.unless}:", f"{INDENT}{line}"] if self.kind.unless else [line]

    def run(self, r: int, args: Args) -> int:
        """The result after it."""
        values = [args[word] if word in args else int(word) for word in self.slots.values()]
        return self.kind.does(*values) if self.kind.starts else self.kind.does(r, *values)


def format_params(params: dict[str, type]) -> str:
    """The parameters in words."""
    names, kinds = list(params), list(params.values())
    if kinds[0] is list:
        return f"a list of integers {names[0]}" + (f" and an integer {names[1]}" if len(names) > 1 else "")
    return {
        1: "an integer {}",
        2: "two integers {} and {}",
        3: "three integers {}, {} and {}",
    }[len(names)].format(*names)


def read_header(sentence: str) -> Header | None:
    """The header that a sentence is, or None."""
    found = _HEADER.fullmatch(sentence)
    if found is None or _taken(found[1]):
        return None
    for pattern, kinds in _PARAMS:
        params = pattern.fullmatch(found[2])
        if params and len(set(params.groups())) == len(kinds) and not any(map(_taken, params.groups())):
            return Header(name=found[1], params=dict(zip(params.groups(), kinds, strict=True)))
    return None


def _taken(word: str) -> bool:
    """Whether Python or the reference program has another use for the name."""
    return keyword.iskeyword(word) or hasattr(builtins, word) or word == "r"


def read_sentence(sentence: str) -> Sentence | None:
    """The step that a sentence is, or None; whether its words are known is not looked at here."""
    for kind, i, pattern, order in _PATTERNS:
        found = pattern.fullmatch(sentence)
        if found and all(found[order.index(s) + 1] == found[at + 1] for at, s in enumerate(order)):
            slots = {slot: found[order.index(slot) + 1] for slot in dict.fromkeys(sorted(order))}
            return Sentence(kind=kind, slots=slots, phrase=i)
    return None


def split(text: str) -> list[str]:
    """The sentences of a text, each with its full stop."""
    return [part.strip() for part in re.findall(r"[^.]*\.|[^.]+$", " ".join(text.split())) if part.strip()]


def program(header: Header, sentences: Sequence[Sentence]) -> str:
    """The reference program: each sentence as a comment, and the lines for it."""
    body = [f"{INDENT}{line}" for sentence in sentences for line in (f"# {sentence}", *sentence.lines())]
    return "\n".join([f"def {header.name}({', '.join(header.params)}):", *body, LAST_LINE])


def _pattern(phrase: str) -> tuple[re.Pattern[str], list[str]]:
    order = _SLOT.findall(phrase)
    return re.compile(_OPERAND.join(map(re.escape, _SLOT.split(phrase)[::2]))), order


_PATTERNS = [(kind, i, *_pattern(phrase)) for kind in KINDS for i, phrase in enumerate(kind.phrases)]
