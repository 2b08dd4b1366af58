"""The exact oracle: is a question of the language solvable, why not, what is its answer, in how many steps.

It reads sentence by sentence (see `grammar`), so it judges any combination of the language's sentences, not only those
the generator writes. It takes arbitrary text in linear time and never raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from sq.domains.arithmetic.grammar import CLASSES, Kind, Slots, Template, index, lex
from sq.domains.arithmetic.lexicon import GENDER, SINGULAR
from sq.domains.arithmetic.themes import ALL_KINDS
from sq.domains.arithmetic.world import Node, Reason, UnsolvableError, World, needed

SKELETONS = index(ALL_KINDS)
MAX_CHARS = 3000
LARGEST = 10**9
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")
PAIRS = {"A": "B", "I": "J", "L": "K", "X": "Q", "V": "U", "N": "O"}
"""Slots of a sentence that are two of a kind, and never the same one."""


@dataclass(frozen=True)
class Sentence:
    """One sentence as read: its kind, its slots (pronouns not yet resolved), the phrasing, the text."""

    text: str
    kind: Kind
    template: Template
    slots: Slots


@dataclass(frozen=True)
class QuestionAnalysis:
    """What the oracle says of a question. `steps` counts the operations that the asked quantity needs."""

    solvable: bool
    reason: Reason
    detail: str = ""
    answer: Fraction | None = None
    steps: int = 0
    family: str | None = None
    solution: str | None = None
    peak: int = 0
    """The largest number on the way, or more than any where one is a fraction."""


def analyse(text: str) -> QuestionAnalysis:
    """Judge a question from its text alone."""
    if len(text) > MAX_CHARS:
        return QuestionAnalysis(False, Reason.TOO_LONG)
    read = parse(text)
    return read if isinstance(read, QuestionAnalysis) else run(read)


def split(text: str) -> list[str]:
    """The sentences of a text."""
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]


def parse(text: str) -> list[Sentence] | QuestionAnalysis:
    """Read every sentence, or say which one is not of the language."""
    sentences = []
    for sentence in split(text):
        read = read_sentence(sentence)
        if read is None:
            return QuestionAnalysis(False, Reason.UNPARSED, sentence)
        sentences.append(read)
    return sentences or QuestionAnalysis(False, Reason.EMPTY)


def read_sentence(text: str) -> Sentence | None:
    """Read one sentence by its skeleton."""
    if text[0].islower():
        return None
    tokens = lex(text)
    entry = SKELETONS.get(" ".join([token.shape for token in tokens]))
    if entry is None:
        return None
    each, template = entry
    values = [token.value for token in tokens if token.shape in CLASSES]
    return Sentence(text, each, template, dict(zip(template.slots, values, strict=True)))


def run(sentences: list[Sentence]) -> QuestionAnalysis:
    """Execute the statements and answer the question, which must be the last sentence."""
    world = World()
    asked: Node | None = None
    family = None
    sentence = sentences[0]
    try:
        for sentence in sentences:
            if asked is not None:
                reason = Reason.SEVERAL if sentence.kind.role.asks else Reason.TRAILING
                return QuestionAnalysis(False, reason, sentence.text)
            node = execute(world, sentence.kind, sentence.slots)
            if sentence.kind.role.asks:
                asked, family = node, sentence.kind.theme
        if asked is None:
            return QuestionAnalysis(False, Reason.NO_QUESTION)
        world.resolve_all()
    except UnsolvableError as error:
        return QuestionAnalysis(False, error.reason, sentence.text)
    if asked.value is None:
        return QuestionAnalysis(False, Reason.MISSING, sentence.text, family=family)
    peak = max([abs(Fraction(node.value)) for node in world.nodes if node.value is not None])
    if peak > LARGEST:
        return QuestionAnalysis(False, Reason.TOO_LONG, family=family)
    steps = needed(asked)
    answer = Fraction(asked.value)
    if any(type(node.value) is not int for node in steps):
        peak = Fraction(LARGEST)
    return QuestionAnalysis(True, Reason.OK, "", answer, len(steps), family, format_solution(steps, answer), int(peak))


def execute(world: World, kind: Kind, slots: Slots) -> Node | None:
    """Do what a sentence says. "He" and "she" are the subject of the sentence before."""
    subject = slots.get("A")
    if subject in ("he", "she"):
        if world.subject is None or GENDER[world.subject] != subject:
            raise UnsolvableError(Reason.UNKNOWN)
        slots = {**slots, "A": world.subject}
    elif subject is not None:
        world.subject = subject
    same = any(slots.get(one) == slots.get(two) is not None for one, two in PAIRS.items())
    if same or slots.get("B") in ("he", "she"):
        raise UnsolvableError(Reason.CONTRADICTION)
    return kind.effect(world, slots)


def format_solution(steps: list[Node], answer: Fraction) -> str:
    """The worked solution: one short sentence a step, then the boxed answer."""
    lines = [format_step(step) for step in steps]
    lines.append(rf"The answer is \boxed{{{answer}}}.")
    return " ".join(lines)


def format_step(node: Node) -> str:
    """One step: "Tom has 12 + 7 = 19 apples."."""
    assert node.left is not None and node.right is not None and node.left.value is not None
    assert node.right.value is not None and node.value is not None
    after = f" {node.after}" if node.after else ""
    if node.value == 1:
        after = " ".join([SINGULAR.get(word, word) for word in after.split(" ")])
    return f"{node.before} {node.left.value} {node.op} {node.right.value} = {node.value}{after}."
