"""Text to pretrain a tiny base on: facts, steps of solutions, a few worked problems, and bare questions good and bad.

A base must know the language and its arithmetic, have seen few worked solutions, and be a poor writer of questions:
what it says after the chat prefix is to be improved by QFT and QPO. So good questions of all lengths stand as plain
text, from which it learns whose number is whose, and after the prefix stand short good ones, unsolvable ones and
badly written ones. A solver is a base that goes on with a corpus of mostly worked problems, half of them as plain text
and half in chat form, where the questions carry no loss: tuned on these alone it forgets how questions look.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from sq.domains.arithmetic.families import FAMILIES, LIMIT, MOST_STEPS, Problem, problem, table
from sq.domains.arithmetic.splits import split_of
from sq.domains.arithmetic.spoiled_questions import poor, unsolvable
from sq.domains.base import Document

KINDS = {"facts": 20, "steps": 10, "unanswered": 30, "good": 11, "unsolvable": 14, "poor": 15}
"""Kind of document -> its weight; worked problems are a share of their own."""
FACTS = 8
NOTED_STEPS = 3
_EQUATION = re.compile(r"\d+ [-+*/] \d+ = \d+")
SHORT_STEPS = (1, 1, 1, 2, 2, 2, 3, 3, 4)


def documents(
    count: int,
    seed: int,
    families: Sequence[str] = (),
    low: int = 1,
    high: int = MOST_STEPS,
    worked: float = 0.004,
    noted: float = 0.0,
) -> Iterator[Document]:
    """Yield `count` documents, the same for the same arguments; a shorter run is a prefix of a longer one.

    Problems are `worked` with a solution, or `noted`: short ones with what there is to compute, without words.
    Questions are of all families where none is named, those held out among them, and of `low` to `high` steps.
    """
    rng = random.Random(f"arithmetic corpus:{seed}")
    kinds, weights = list(KINDS), list(KINDS.values())
    steps = [n for n in SHORT_STEPS if low <= n <= high] or [high]
    for _ in range(count):
        part = rng.random()
        kind = "worked" if part < worked else "noted" if part < worked + noted else rng.choices(kinds, weights)[0]
        yield _document(kind, rng, steps, families or tuple(FAMILIES))


def facts(rng: random.Random) -> str:
    """One line of arithmetic, within the range the questions use: "7 + 5 = 12"."""
    op = rng.choice("++--**/")
    if op == "+":
        a = rng.randint(1, LIMIT - 1)
        b = rng.randint(1, LIMIT - a)
        return f"{a} + {b} = {a + b}"
    if op == "-":
        a = rng.randint(1, LIMIT)
        b = rng.randint(0, a)
        return f"{a} - {b} = {a - b}"
    while True:
        left, right = rng.randint(1, 10), rng.randint(1, 25)
        if table(left, right):
            break
    if op == "/":
        return f"{left * right} / {left} = {right}"
    left, right = (left, right) if rng.random() < 0.5 else (right, left)
    return f"{left} * {right} = {left * right}"


def _document(kind: str, rng: random.Random, steps: Sequence[int], families: Sequence[str]) -> Document:
    if kind == "facts":
        return Document(text="\n".join(facts(rng) for _ in range(FACTS)))
    if kind == "poor":
        return Document(question=poor(rng))
    if kind == "noted":
        one = _train_problem(rng, rng.randint(1, NOTED_STEPS), families)
        sums = "\n".join(_EQUATION.findall(one.solution))
        if rng.random() < 0.5:
            return Document(question=one.question, solution=sums, given=True)
        return Document(text=f"Problem: {one.question}\n{sums}")
    if kind in ("unanswered", "worked"):
        one = _train_problem(rng, rng.randint(1, MOST_STEPS), families)
        if kind == "worked" and rng.random() < 0.5:
            return Document(question=one.question, solution=one.solution, given=True)
        solution = f"\nSolution: {one.solution}" if kind == "worked" else ""
        return Document(text=f"Problem: {one.question}{solution}")
    one = _train_problem(rng, rng.choice(steps), families)
    if kind == "steps":
        lines = [line for other in (one, _train_problem(rng, 5, families)) for line in _lines(other)]
        return Document(text="\n".join(rng.sample(lines, min(len(lines), 4))))
    if kind == "good":
        return Document(question=one.question)
    return Document(question=unsolvable(one.question, rng)[0])


def _lines(one: Problem) -> list[str]:
    """The steps of a solution, without the answer."""
    return [f"{line}." for line in one.solution.split(". ")[:-1]]


def _train_problem(rng: random.Random, steps: int, families: Sequence[str]) -> Problem:
    while True:
        one = problem(rng, low=steps, high=steps, families=families)
        if split_of(one.question) == "train":
            return one
