"""Text to pretrain a tiny base on: tasks with their programs, and bare tasks good and bad.

As in the arithmetic domain, the base learns the language, and what it says after the chat prefix is to be improved.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from sq.domains.arithmetic.splits import split_of
from sq.domains.base import Document
from sq.domains.programs.problems import Problem, poor, problem, unsolvable

KINDS = {"worked": 68, "worked in chat": 8, "good": 4, "unsolvable": 11, "poor": 9}
"""Kind of document -> its share, in hundredths. Of what stands in chat form, two fifths can be programmed."""
STEPS = (1, 1, 2, 2, 3, 3, 4, 5, 6)
SHORT_STEPS = (1, 1, 1, 2, 2, 2, 3, 3, 4)


def documents(count: int, seed: int) -> Iterator[Document]:
    """Yield `count` documents, the same for the same arguments; a shorter run is a prefix of a longer one."""
    rng = random.Random(f"programs corpus:{seed}")
    kinds, shares = list(KINDS), list(KINDS.values())
    for _ in range(count):
        yield _document(rng.choices(kinds, shares)[0], rng)


def train_problem(rng: random.Random, low: int, high: int) -> Problem:
    """A task of the training split."""
    while True:
        one = problem(rng, low=low, high=high)
        if split_of(one.question) == "train":
            return one


def _document(kind: str, rng: random.Random) -> Document:
    if kind == "worked":
        steps = rng.choice(STEPS)
        one = train_problem(rng, steps, steps)
        return Document(text=f"Task: {one.question}\nProgram: {one.solution}")
    short = rng.choice(SHORT_STEPS)
    if kind == "worked in chat":
        one = train_problem(rng, short, short)
        return Document(question=one.question, solution=one.solution)
    if kind == "good":
        return Document(question=train_problem(rng, short, short).question)
    if kind == "unsolvable":
        return Document(question=unsolvable(train_problem(rng, short, short).question, rng)[0])
    return Document(question=poor(rng))
