"""Text to pretrain a tiny base on: facts, worked problems, and bare questions good and bad.

A base must know the language and its arithmetic, and be a poor writer of questions: what it says after the chat prefix
is to be improved by QFT and QPO. So most worked problems stand as plain text, and after the prefix stand good
questions, unsolvable ones and badly written ones, the good ones mostly short.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from sq.domains.arithmetic.families import Problem, problem
from sq.domains.arithmetic.splits import split_of
from sq.domains.arithmetic.spoiled_questions import poor, unsolvable
from sq.domains.base import Document

KINDS = {"facts": 10, "worked": 35, "worked in chat": 15, "good": 10, "unsolvable": 16, "poor": 14}
"""Kind of document -> its share, in hundredths."""
FACTS = 8
SHORT_STEPS = (1, 1, 1, 2, 2, 2, 3, 3, 4)


def documents(count: int, seed: int) -> Iterator[Document]:
    """Yield `count` documents, the same for the same arguments; a shorter run is a prefix of a longer one."""
    rng = random.Random(f"arithmetic corpus:{seed}")
    kinds, shares = list(KINDS), list(KINDS.values())
    for _ in range(count):
        yield _document(rng.choices(kinds, shares)[0], rng)


def facts(rng: random.Random) -> str:
    """One line of arithmetic, within the range the questions use: "7 + 5 = 12"."""
    op = rng.choice("++--**/")
    if op == "+":
        a = rng.randint(0, 100)
        b = rng.randint(0, 100 - a)
        return f"{a} + {b} = {a + b}"
    if op == "-":
        a = rng.randint(0, 100)
        b = rng.randint(0, a)
        return f"{a} - {b} = {a - b}"
    small = rng.randint(1, 10)
    large = rng.randint(1, 10) if rng.random() < 0.6 or small > 3 else rng.randint(1, 100 // small)
    left, right = (small, large) if rng.random() < 0.5 else (large, small)
    if op == "*":
        return f"{left} * {right} = {left * right}"
    return f"{left * right} / {right} = {left}"


def _document(kind: str, rng: random.Random) -> Document:
    if kind == "facts":
        return Document(text="\n".join(facts(rng) for _ in range(FACTS)))
    if kind == "worked":
        one = _train_problem(rng, rng.randint(1, 6))
        return Document(text=f"Problem: {one.question}\nSolution: {one.solution}")
    if kind == "worked in chat":
        one = _train_problem(rng, rng.choice(SHORT_STEPS))
        return Document(question=one.question, solution=one.solution)
    if kind == "good":
        return Document(question=_train_problem(rng, rng.choice(SHORT_STEPS)).question)
    if kind == "unsolvable":
        return Document(question=unsolvable(_train_problem(rng, rng.choice(SHORT_STEPS)).question, rng)[0])
    return Document(question=poor(rng))


def _train_problem(rng: random.Random, steps: int) -> Problem:
    while True:
        one = problem(rng, low=steps, high=steps)
        if split_of(one.question) == "train":
            return one
