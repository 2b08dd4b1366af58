"""Tasks made from the grammar, spoiled ones, and rewriting: one is fixed, or made longer by an operation."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from sq.domains.programs.grammar import (
    CHANGES,
    END,
    LISTS,
    NAMES,
    NUMBERS,
    STARTS,
    STRANGERS,
    VAGUE,
    Header,
    Kind,
    Sentence,
    read_header,
    read_sentence,
    split,
)
from sq.domains.programs.oracle import MOST_STEPS, Reason, analyse


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A task, its tests, the worked solution, and how many operations it needs."""

    question: str
    answer: str
    solution: str
    steps: int


def problem(rng: random.Random, *, low: int = 1, high: int = 6) -> Problem:
    """A task of `low` to `high` operations."""
    goal = rng.randint(low, high)
    header = _header(rng)
    sentences = [_start(header, goal, rng)]
    while sum(s.kind.steps for s in sentences) < goal:
        sentences.append(_change(header, sentences[-1], rng))
    question = format_task(header, sentences)
    analysis = analyse(question)
    if analysis.answer is None or analysis.solution is None:
        raise AssertionError(f"the grammar made a task that the oracle does not take ({analysis.reason}): {question}")
    return Problem(question=question, answer=analysis.answer, solution=analysis.solution, steps=analysis.steps)


def format_task(header: Header, sentences: list[Sentence]) -> str:
    """The text of a task."""
    return " ".join([str(header), *map(str, sentences), END])


def unsolvable(question: str, rng: random.Random) -> tuple[str, Reason]:
    """Spoil a task that can be programmed; the label is why it cannot be now."""
    parts = split(question)
    for reason, spoil in rng.sample(SPOILERS, len(SPOILERS)):
        spoiled = spoil(parts, rng)
        if spoiled is not None and analyse(" ".join(spoiled)).reason is reason:
            return " ".join(spoiled), reason
    return " ".join(parts[:-1]), analyse(" ".join(parts[:-1])).reason


def poor(rng: random.Random) -> str:
    """A badly written task: cut off, repeating itself, merged of two, garbled, or trivial."""
    return rng.choice((_cut, _merged, _garbled, _repeating, _trivial))(rng)


def fix(question: str, rng: random.Random) -> str:
    """A task close to `question` that can be programmed: what is understood is kept, what is not goes."""
    parts = split(question[:1000])
    header = next(filter(None, map(read_header, parts)), None) or _header(rng)
    kept: list[Sentence] = []
    for sentence in filter(None, map(read_sentence, parts)):
        if sentence.kind.starts is bool(kept):
            continue
        fitted = _fitted(sentence, header, rng)
        if fitted and sum(s.kind.steps for s in kept) + fitted.kind.steps <= MOST_STEPS:
            kept.append(fitted)
    if not kept:
        kept = [_start(header, 2, rng)]
    if not sum(s.kind.steps for s in kept):
        kept.append(_change(header, kept[-1], rng))
    return format_task(header, kept)


def add_steps(question: str, rng: random.Random, steps: int = 1) -> str | None:
    """The task with `steps` more operations; None where it cannot be programmed itself, or is long enough."""
    analysis = analyse(question)
    if not analysis.solvable or analysis.header is None or analysis.steps + steps > MOST_STEPS:
        return None
    sentences = list(analysis.sentences)
    for _ in range(steps):
        at = rng.randint(1, len(sentences))
        sentences.insert(at, _change(analysis.header, sentences[at - 1], rng))
    return format_task(analysis.header, sentences)


def _header(rng: random.Random) -> Header:
    name = rng.choice(NAMES)
    shape = rng.choices(("one", "two", "three", "list", "list and one"), (25, 35, 10, 20, 10))[0]
    if shape.startswith("list"):
        params: dict[str, type] = {rng.choice(LISTS): list}
        return Header(name=name, params={**params, **({NUMBERS[0]: int} if "one" in shape else {})})
    count = {"one": 1, "two": 2, "three": 3}[shape]
    return Header(name=name, params=dict.fromkeys(NUMBERS[:count], int))


def _start(header: Header, goal: int, rng: random.Random) -> Sentence:
    ints = [name for name, kind in header.params.items() if kind is int]
    lists = [name for name, kind in header.params.items() if kind is list]
    fits = [kind for kind in STARTS if kind.steps <= goal and _slots_of(kind) == ("l" if lists else "ab"[: len(ints)])]
    kind = rng.choice(fits or [kind for kind in STARTS if kind.name in ("take", "sum")[: len(ints)]])
    words = lists if lists else rng.sample(ints, len(_slots_of(kind)))
    slots = dict(zip(_slots_of(kind), words, strict=False))
    return Sentence(kind=kind, slots=slots, phrase=rng.randrange(len(kind.phrases)))


def _slots_of(kind: Kind) -> str:
    return "".join(slot for slot in "abln" if f"{{{slot}}}" in kind.phrases[0])


def _change(header: Header, before: Sentence, rng: random.Random) -> Sentence:
    """A change that is not the one before it."""
    kind = rng.choice([kind for kind in CHANGES if kind is not before.kind])
    phrase = rng.randrange(len(kind.phrases))
    return Sentence(kind=kind, slots={"n": _operand(kind, header, rng)} if _slots_of(kind) else {}, phrase=phrase)


def _operand(kind: Kind, header: Header, rng: random.Random) -> str:
    ints = [name for name, sort in header.params.items() if sort is int]
    if ints and not kind.fixed and rng.random() < 0.25:
        return rng.choice(ints)
    return str(rng.randint(*kind.numbers))


def _fitted(sentence: Sentence, header: Header, rng: random.Random) -> Sentence | None:
    """The sentence with words that are known in each slot; None where the parameters cannot fill it."""
    slots: dict[str, str] = {}
    for slot, word in sentence.slots.items():
        wanted = list if slot == "l" else int
        known = [name for name, kind in header.params.items() if kind is wanted]
        number = slot == "n" and word.lstrip("-").isdigit() and not (sentence.kind.fixed and int(word) <= 0)
        if number or (word in known and not sentence.kind.fixed):
            slots[slot] = word
        elif slot == "n":
            slots[slot] = str(rng.randint(*sentence.kind.numbers))
        elif known:
            slots[slot] = rng.choice(known)
        else:
            return None
    return replace(sentence, slots=slots)


Spoiler = Callable[[list[str], random.Random], list[str] | None]


def _vague(parts: list[str], rng: random.Random) -> list[str] | None:
    """A number is left out."""
    places = [i for i, part in enumerate(parts) if (s := read_sentence(part)) and s.slots.get("n", "").isdigit()]
    return _with_slot(parts, places, rng, lambda sentence: ("n", rng.choice(VAGUE)))


def _stranger(parts: list[str], rng: random.Random) -> list[str] | None:
    """A name that is no parameter."""
    places = [i for i, part in enumerate(parts) if (s := read_sentence(part)) and s.slots]
    return _with_slot(parts, places, rng, lambda sentence: (rng.choice(list(sentence.slots)), rng.choice(STRANGERS)))


def _by_zero(parts: list[str], rng: random.Random) -> list[str] | None:
    """A division by zero."""
    places = [i for i, part in enumerate(parts) if (s := read_sentence(part)) and s.kind.fixed]
    return _with_slot(parts, places, rng, lambda sentence: ("n", "0"))


def _with_slot(
    parts: list[str], places: list[int], rng: random.Random, change: Callable[[Sentence], tuple[str, str]]
) -> list[str] | None:
    if not places:
        return None
    i = rng.choice(places)
    sentence = read_sentence(parts[i])
    if sentence is None:
        return None
    slot, word = change(sentence)
    return [*parts[:i], str(replace(sentence, slots={**sentence.slots, slot: word})), *parts[i + 1 :]]


def _unnamed(parts: list[str], rng: random.Random) -> list[str] | None:
    return parts[1:]


def _unstarted(parts: list[str], rng: random.Random) -> list[str] | None:
    return [parts[0], *parts[2:]] if len(parts) > 3 else None


def _unreturned(parts: list[str], rng: random.Random) -> list[str] | None:
    return parts[:-1]


def _started_twice(parts: list[str], rng: random.Random) -> list[str] | None:
    header = read_header(parts[0])
    return [*parts[:2], str(_start(header, 1, rng)), *parts[2:]] if header else None


SPOILERS: tuple[tuple[Reason, Spoiler], ...] = (
    (Reason.MISSING, _vague),
    (Reason.MISSING, _vague),
    (Reason.UNKNOWN, _stranger),
    (Reason.UNKNOWN, _stranger),
    (Reason.ZERO, _by_zero),
    (Reason.NO_FUNCTION, _unnamed),
    (Reason.NO_START, _unstarted),
    (Reason.NO_RETURN, _unreturned),
    (Reason.CONTRADICTION, _started_twice),
)


def _cut(rng: random.Random) -> str:
    words = problem(rng, low=2).question.split(" ")
    return " ".join(words[: rng.randint(len(words) // 3, len(words) - 2)])


def _merged(rng: random.Random) -> str:
    one, two = split(problem(rng).question), split(problem(rng).question)
    return " ".join(one[: rng.randint(1, len(one))] + two[rng.randrange(len(two)) :])


def _garbled(rng: random.Random) -> str:
    words = problem(rng).question.split(" ")
    for _ in range(rng.randint(1, 4)):
        i, j = rng.randrange(len(words)), rng.randrange(len(words))
        words[i], words[j] = words[j], words[i]
    return " ".join(words)


def _repeating(rng: random.Random) -> str:
    parts = split(problem(rng).question)
    i = rng.randrange(len(parts))
    return " ".join([*parts[: i + 1], *parts[i : i + 1] * rng.randint(1, 2), *parts[i + 1 :]])


def _trivial(rng: random.Random) -> str:
    header = _header(rng)
    return format_task(header, [_start(header, 1, rng)])
