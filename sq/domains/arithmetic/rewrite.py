"""Rewriting a question, as an expert would: fix one that cannot be solved, or add steps to one that can.

Both search among small edits and let the oracle decide, so what they return is solvable for certain.
"""

from __future__ import annotations

import random
from typing import Any

from sq.domains.arithmetic.families import MOST_STEPS, problem
from sq.domains.arithmetic.grammar import SLOT_CLASS, Kind, Slots, lex
from sq.domains.arithmetic.lexicon import CLASS_OF, GENDER
from sq.domains.arithmetic.oracle import ALL_KINDS, MAX_CHARS, QuestionAnalysis, analyse, read_sentence, split
from sq.domains.arithmetic.story import CHANGING, LIMIT
from sq.domains.arithmetic.world import Reason

ROUNDS = 10
STATING = frozenset("set one first groups two both cut pace drive square long goal pay".split())
_GROUPS = (
    {"have", "share", "pack", "pool", "ratio"},
    {"crowd", "team"},
    {"money", "earned", "spent", "price", "shop", "split"},
)
_CHANGES = tuple(k for k in ALL_KINDS if not k.asks and k.name.partition(".")[2] in CHANGING)
_STATES = tuple(k for k in ALL_KINDS if not k.asks and k.name.partition(".")[2] in STATING)
_ASKS = tuple(k for k in ALL_KINDS if k.asks)
_OTHERS = tuple(k for k in ALL_KINDS if not k.asks)


def fix(question: str, rng: random.Random) -> str:
    """A solvable question close to `question`; one of like family where nothing of it can be kept."""
    sentences = split(question[:MAX_CHARS])
    for _ in range(ROUNDS):
        analysis = analyse(" ".join(sentences))
        if analysis.solvable and analysis.steps:
            return " ".join(sentences)
        repaired = _repair(sentences, analysis.reason, analysis.detail, rng)
        if repaired is None:
            break
        sentences = repaired
    return _fresh(question, rng)


def add_steps(question: str, rng: random.Random, steps: int = 1) -> str | None:
    """A question that needs at least `steps` more steps and is still solvable, its numbers in range.

    Where no sentence fits in, it is another question of the sort; None where `question` is not solvable itself.
    """
    before = analyse(question)
    if not before.solvable:
        return None
    goal, sentences = before.steps + steps, split(question)
    for _ in range(steps):
        now = analyse(" ".join(sentences)).steps
        harder = _insert(sentences, now, rng) or _ask_more(sentences, now, rng)
        if harder is None:
            break
        sentences = harder
        if analyse(" ".join(sentences)).steps >= goal:
            return " ".join(sentences)
    return _fresh(question, rng, goal) if goal <= MOST_STEPS else None


def _repair(sentences: list[str], reason: Reason, detail: str, rng: random.Random) -> list[str] | None:
    """One repair of the fault the oracle found; None where there is none."""
    if reason is Reason.UNPARSED:
        return [s for s in sentences if s != detail] or None
    if reason is Reason.SEVERAL:
        return sentences[: next(i for i, s in enumerate(sentences) if _asks(s)) + 1]
    if reason is Reason.TRAILING:
        return [s for s in sentences if not _asks(s)] + [next(s for s in sentences if _asks(s))]
    if reason in (Reason.CONTRADICTION, Reason.NONSENSE):
        kept = [s for s in sentences if s != detail]
        return kept if kept and not _asks(detail) else _new_question(sentences, rng)
    if reason in (Reason.NEGATIVE, Reason.FRACTIONAL):
        return _renumbered(sentences, rng)
    if reason is Reason.MISSING:
        return _filled(sentences, rng) or _stated(sentences, rng) or _new_question(sentences, rng)
    if reason is Reason.UNKNOWN and not _asks(detail):
        return _named(sentences, detail, rng)
    if reason in (Reason.UNKNOWN, Reason.NO_QUESTION):
        return _new_question(sentences, rng) or _stated(sentences, rng)
    if reason is Reason.OK:
        return _insert(sentences, 0, rng) or _new_question(sentences, rng)
    return None


def _asks(sentence: str) -> bool:
    return sentence.endswith("?")


def _numbers(sentences: list[str]) -> list[tuple[int, Any]]:
    return [(i, token) for i, s in enumerate(sentences) for token in lex(s) if token.shape in ("#", "$")]


def _put(sentences: list[str], i: int, token: Any, number: int) -> list[str]:
    word = f"${number}" if token.shape == "$" else str(number)
    return [*sentences[:i], sentences[i][: token.start] + word + sentences[i][token.end :], *sentences[i + 1 :]]


def _filled(sentences: list[str], rng: random.Random) -> list[str] | None:
    """Numbers for "some" and "several", so that the whole works out."""
    vague = [(i, token) for i, token in _numbers(sentences) if token.value is None]
    if not vague:
        return None
    for _ in range(40):
        filled = sentences
        for i, token in reversed(vague):
            filled = _put(filled, i, token, rng.randint(2, 10))
        analysis = analyse(" ".join(filled))
        if _neat(analysis, filled) or not (
            analysis.solvable or analysis.reason in (Reason.NEGATIVE, Reason.FRACTIONAL)
        ):
            break
    return filled


def _renumbered(sentences: list[str], rng: random.Random) -> list[str] | None:
    """Other numbers for those that are negative or broken, else for one, else for all, until it works out."""
    places = _numbers(sentences)
    broken = [(i, t) for i, t in places if t.value is not None and (t.value < 0 or type(t.value) is not int)]
    known = [(i, t) for i, t in places if t.value is not None]
    if not known:
        return None
    for attempt in range(120):
        chosen = broken or ([rng.choice(known)] if attempt < 60 else rng.sample(known, rng.randint(1, len(known))))
        renewed = sentences
        for i, token in sorted(chosen, key=lambda place: (place[0], place[1].start), reverse=True):
            renewed = _put(renewed, i, token, rng.randint(1, 12) if rng.random() < 0.6 else rng.randint(10, 60))
        analysis = analyse(" ".join(renewed))
        if _neat(analysis, renewed) or not (
            analysis.solvable or analysis.reason in (Reason.NEGATIVE, Reason.FRACTIONAL)
        ):
            return renewed
        if attempt == 59:
            broken = []
    return None


def _named(sentences: list[str], detail: str, rng: random.Random) -> list[str] | None:
    """A name for a "he" that refers to no one."""
    if detail not in sentences:
        return None
    i = sentences.index(detail)
    token = next((t for t in lex(detail) if t.shape == "A" and t.value in ("he", "she")), None)
    if token is None:
        return None
    names = [name for name in _entities(sentences).get("A", []) if GENDER[name] == token.value]
    name = rng.choice(names or [n for n, pronoun in GENDER.items() if pronoun == token.value])
    return [*sentences[:i], detail[: token.start] + name + detail[token.end :], *sentences[i + 1 :]]


def _stated(sentences: list[str], rng: random.Random) -> list[str] | None:
    """A first sentence that states what is missing."""
    entities = _entities(sentences)
    for kind in _near(_STATES, sentences, rng):
        for _ in range(3):
            slots = _slots(kind, entities, rng)
            if slots is not None:
                tried = [_render(kind, slots, rng), *sentences]
                if _neat(analyse(" ".join(tried)), tried):
                    return tried
    return None


def _new_question(sentences: list[str], rng: random.Random) -> list[str] | None:
    """A question that the statements can answer, rather one that needs most of them."""
    return _ask_more([*[s for s in sentences if not _asks(s)], ""], 0, rng)


def _ask_more(sentences: list[str], steps: int, rng: random.Random) -> list[str] | None:
    """Another question in place of the last sentence, that needs more than `steps` steps."""
    statements = sentences[:-1]
    entities = _entities(statements)
    best, most = None, steps
    tries = 0
    for kind in _near(_ASKS, statements, rng):
        slots = _slots(kind, entities, rng)
        if slots is None:
            continue
        tried = [*statements, _render(kind, slots, rng)]
        analysis = analyse(" ".join(tried))
        if analysis.steps > most and _neat(analysis, tried):
            best, most = tried, analysis.steps
            tries += 1
            if tries == 3:
                break
    return best


def _insert(sentences: list[str], steps: int, rng: random.Random) -> list[str] | None:
    """One more sentence before the question, after which it needs more than `steps` steps."""
    entities = _entities(sentences)
    large: list[list[str]] = []
    for kinds, tries in ((_CHANGES, 6), (_OTHERS, 2)):
        for kind in _near(kinds, sentences, rng, only_near=True):
            for _ in range(tries):
                slots = _slots(kind, entities, rng)
                if slots is None:
                    break
                place = rng.randint(1, len(sentences) - 1) if len(sentences) > 1 else 0
                tried = [*sentences[:place], _render(kind, slots, rng), *sentences[place:]]
                analysis = analyse(" ".join(tried))
                if analysis.steps > steps and _neat(analysis, tried):
                    return tried
                if analysis.steps > steps or analysis.reason in (Reason.NEGATIVE, Reason.FRACTIONAL):
                    large.append(tried)
    return _made_to_fit(large, steps, rng)


def _made_to_fit(candidates: list[list[str]], steps: int, rng: random.Random) -> list[str] | None:
    """Other numbers, where the new sentence took the old ones out of range."""
    for tried in rng.sample(candidates, min(8, len(candidates))):
        for _ in range(40):
            smaller = tried
            for i, token in reversed(_numbers(tried)):
                if type(token.value) is int and rng.random() < 0.4:
                    smaller = _put(smaller, i, token, rng.randint(2, max(2, token.value)))
            analysis = analyse(" ".join(smaller))
            if analysis.steps > steps and _neat(analysis, smaller):
                return smaller
    return None


def _neat(analysis: QuestionAnalysis, sentences: list[str]) -> bool:
    """Solvable, within the range of numbers, and a whole answer unless a fraction is asked for."""
    if not analysis.solvable or analysis.answer is None or analysis.peak > LIMIT:
        return False
    return analysis.answer.denominator == 1 or "fraction" in sentences[-1]


def _near(kinds: tuple[Kind, ...], sentences: list[str], rng: random.Random, only_near: bool = False) -> list[Kind]:
    """Kinds in random order, those of the sentences' own themes first."""
    themes = {read.kind.theme for s in sentences if (read := read_sentence(s))}
    themes |= {theme for group in _GROUPS if group & themes for theme in group}
    near = [kind for kind in kinds if kind.theme in themes]
    far = [] if only_near else [kind for kind in kinds if kind.theme not in themes]
    return rng.sample(near, len(near)) + rng.sample(far, len(far))


def _entities(sentences: list[str]) -> dict[str, list[str]]:
    """The names and nouns of a text by class letter, in the order they come up."""
    entities: dict[str, list[str]] = {}
    for sentence in sentences:
        for token in lex(sentence):
            values = entities.setdefault(token.shape, [])
            if isinstance(token.value, str) and token.value not in ("he", "she") and token.value not in values:
                values.append(token.value)
    return entities


_FREE = frozenset("#$MFDPGYO")
"""Classes a new sentence may draw afresh; all others it takes from the text."""


def _slots(kind: Kind, entities: dict[str, list[str]], rng: random.Random) -> Slots | None:
    """Fill the slots of a kind from the text; None where the text has nobody to fill them."""
    slots: Slots = {}
    used: set[str] = set()
    for template in kind.templates:
        for name in template.slots:
            if name in slots:
                continue
            letter = SLOT_CLASS[name]
            if letter in "#$":
                slots[name] = rng.randint(2, 6) if name == "k" else rng.randint(2, 10 if rng.random() < 0.5 else 25)
            elif letter == "M":
                slots[name] = rng.randint(2, 5)
            elif letter == "F":
                slots[name] = (1, rng.choice([2, 3, 4]))
            else:
                pool = [value for value in entities.get(letter, []) if value not in used]
                if not pool and letter in _FREE:
                    pool = [value for c, value in CLASS_OF.values() if c == letter and value not in used]
                if not pool:
                    return None
                slots[name] = rng.choice(pool)
                used.add(slots[name])
    return slots


def _render(kind: Kind, slots: Slots, rng: random.Random) -> str:
    return rng.choice(kind.templates).render(slots)


def _fresh(question: str, rng: random.Random, steps: int = 1) -> str:
    """A new question about the same sort of thing: of two dozen, the one with the most words of the old."""
    words = set(question[:MAX_CHARS].lower().split())
    drafts = [problem(rng, low=steps).question for _ in range(24 if words else 1)]
    return max(drafts, key=lambda draft: len(words & set(draft.lower().split())) / len(draft.split()))
