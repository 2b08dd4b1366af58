"""Questions spoiled on purpose: unsolvable ones with the reason as their label, and poor ones for a mixed corpus."""

from __future__ import annotations

import random
from collections.abc import Callable

from sq.domains.arithmetic.families import FAMILIES, MOST_STEPS, problem
from sq.domains.arithmetic.grammar import lex
from sq.domains.arithmetic.lexicon import CLASS_OF, GENDER, POOLS
from sq.domains.arithmetic.oracle import analyse, read_sentence, split
from sq.domains.arithmetic.world import Reason

Spoiler = Callable[[list[str], random.Random], list[str] | None]


def unsolvable(question: str, rng: random.Random) -> tuple[str, Reason]:
    """Spoil a solvable question in one of the ways that `SPOILERS` lists; the label is why it cannot be solved now.

    A way that does not spoil this very question (the missing number was not needed) is passed over.
    """
    sentences = split(question)
    for reason, spoil in rng.sample(SPOILERS, len(SPOILERS)):
        spoiled = spoil(sentences, rng)
        if spoiled is not None and analyse(" ".join(spoiled)).reason is reason:
            return " ".join(spoiled), reason
    return " ".join(sentences[:-1]), analyse(" ".join(sentences[:-1])).reason


def poor(rng: random.Random) -> str:
    """A poor question text: trivial, unsolvable, cut off, repeating itself, merged, garbled or without a question."""
    return rng.choice(_POOR)(rng)


def _vague(sentences: list[str], rng: random.Random) -> list[str] | None:
    """Tom has "some apples"."""
    places = [
        (i, token)
        for i, sentence in enumerate(sentences[:-1])
        for token in lex(sentence)
        if token.shape == "#" and token.value not in (1, None) and sentence[token.end : token.end + 1] == " "
    ]
    rng.shuffle(places)
    for i, token in places:
        spoiled = _replaced(sentences, i, token.start, token.end, rng.choice(["some", "several"]))
        if analyse(" ".join(spoiled)).reason is Reason.MISSING:
            return spoiled
    return None


def _dropped(sentences: list[str], rng: random.Random) -> list[str] | None:
    """A statement is left out."""
    for i in rng.sample(range(len(sentences) - 1), len(sentences) - 1):
        spoiled = _named(sentences[:i], sentences[i + 1 :], sentences)
        if analyse(" ".join(spoiled)).reason is Reason.MISSING:
            return spoiled
    return None


def _named(before: list[str], after: list[str], sentences: list[str]) -> list[str]:
    """Where the sentence that named someone is gone, the first "He" becomes the name."""
    text = " ".join(sentences)
    name = next((token.value for token in lex(text) if token.shape == "A" and token.value in GENDER), None)
    if before or not after or name is None:
        return before + after
    for pronoun in ("He ", "She "):
        if after[0].startswith(pronoun):
            return [f"{name} {after[0][len(pronoun) :]}", *after[1:]]
    return after


def _contradicted(sentences: list[str], rng: random.Random) -> list[str] | None:
    """The same quantity is stated again, with another number."""
    for i in rng.sample(range(len(sentences) - 1), len(sentences) - 1):
        found = read_sentence(sentences[i])
        if found is None or not found.kind.role.states:
            continue
        numbers = [token for token in lex(sentences[i]) if token.shape == "#" and token.value is not None]
        if len(numbers) != 1:
            continue
        token = numbers[0]
        new = int(token.value) + rng.choice([n for n in range(-9, 10) if n and token.value + n > 1])
        again = _replaced([sentences[i]], 0, token.start, token.end, str(new))[0]
        return [*sentences[: i + 1], again, *sentences[i + 1 :]]
    return None


def _overdrawn(sentences: list[str], rng: random.Random) -> list[str] | None:
    """More is taken away than there is."""
    places = [i for i, s in enumerate(sentences) if (found := read_sentence(s)) and found.kind.role.takes]
    if not places:
        return None
    i = rng.choice(places)
    token = next((t for t in lex(sentences[i]) if t.shape == "#" and t.value is not None), None)
    if token is None:
        return None
    return _replaced(sentences, i, token.start, token.end, str(rng.randint(55, 99)))


def _below_zero(sentences: list[str], rng: random.Random) -> list[str] | None:
    """There are "-5 students"."""
    return _number_spoiled(sentences, rng, lambda text: f"-{text}")


def _fractional(sentences: list[str], rng: random.Random) -> list[str] | None:
    """There are "12.5 students"."""
    return _number_spoiled(sentences, rng, lambda text: f"{text}.5")


def _number_spoiled(sentences: list[str], rng: random.Random, change: Callable[[str], str]) -> list[str] | None:
    places = []
    for i, sentence in enumerate(sentences[:-1]):
        for token in lex(sentence):
            following = sentence[token.end + 1 :].removeprefix("more ").split(" ", 1)[0].rstrip(".,")
            if token.shape == "#" and token.value not in (1, None) and CLASS_OF.get(following, "?")[0] in "IP":
                places.append((i, token))
    if not places:
        return None
    i, token = rng.choice(places)
    return _replaced(sentences, i, token.start, token.end, change(sentences[i][token.start : token.end]))


def _unasked(sentences: list[str], rng: random.Random) -> list[str] | None:
    return sentences[:-1] or None


def _strange(sentences: list[str], rng: random.Random) -> list[str] | None:
    """The question asks about someone or something that never came up."""
    last = sentences[-1]
    tokens = [token for token in lex(last) if token.shape in POOLS and last[token.start : token.end] == token.value]
    if not tokens:
        return None
    token = rng.choice(tokens)
    text = " ".join(sentences)
    new = rng.choice([word for word in POOLS[token.shape] if word not in text])
    return _replaced(sentences, len(sentences) - 1, token.start, token.end, new)


def _asked_twice(sentences: list[str], rng: random.Random) -> list[str] | None:
    """Two questions at once."""
    other = split(_any(rng, high=1))[-1]
    return None if other == sentences[-1] else [*sentences, other]


SPOILERS: tuple[tuple[Reason, Spoiler], ...] = (
    (Reason.MISSING, _vague),
    (Reason.MISSING, _dropped),
    (Reason.CONTRADICTION, _contradicted),
    (Reason.NEGATIVE, _overdrawn),
    (Reason.NEGATIVE, _below_zero),
    (Reason.FRACTIONAL, _fractional),
    (Reason.NO_QUESTION, _unasked),
    (Reason.UNKNOWN, _strange),
    (Reason.SEVERAL, _asked_twice),
)


def _replaced(sentences: list[str], i: int, start: int, end: int, word: str) -> list[str]:
    new = sentences[i][:start] + word + sentences[i][end:]
    return [*sentences[:i], new[0].upper() + new[1:], *sentences[i + 1 :]]


def _any(rng: random.Random, low: int = 1, high: int = MOST_STEPS) -> str:
    """A question of any family, held out or not: a poor one may be of what it likes."""
    return problem(rng, low=low, high=high, families=tuple(FAMILIES)).question


def _trivial(rng: random.Random) -> str:
    """The answer is stated, or one small step away."""
    easy = split(_any(rng, high=1))
    return " ".join([easy[0], easy[-1]])


def _spoiled(rng: random.Random) -> str:
    return unsolvable(_any(rng), rng)[0]


def _cut(rng: random.Random) -> str:
    words = _any(rng, low=2).split(" ")
    return " ".join(words[: rng.randint(len(words) // 3, len(words) - 2)])


def _repeating(rng: random.Random) -> str:
    sentences = split(_any(rng))
    i = rng.randrange(len(sentences))
    return " ".join(sentences[: i + 1] + sentences[i : i + 1] * rng.randint(1, 2) + sentences[i + 1 :])


def _merged(rng: random.Random) -> str:
    one, two = split(_any(rng)), split(_any(rng))
    return " ".join(one[: rng.randint(1, len(one))] + two[rng.randrange(len(two)) :])


def _garbled(rng: random.Random) -> str:
    words = _any(rng).split(" ")
    for _ in range(rng.randint(1, 4)):
        i, j = rng.randrange(len(words)), rng.randrange(len(words))
        if rng.random() < 0.5:
            words[i], words[j] = words[j], words[i]
        elif len(words) > 4:
            del words[i]
        else:
            words.insert(i, words[j])
    return " ".join(words)


_POOR: tuple[Callable[[random.Random], str], ...] = (_trivial, _spoiled, _spoiled, _cut, _repeating, _merged, _garbled)
