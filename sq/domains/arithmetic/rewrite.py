"""Rewriting a question, as an optimiser would: another of the same sort, that can be solved and is as long or longer.

Small edits of the question itself, a name or a sentence, were tried as well: they are solvable, but no longer read as
the seeds do, and QPO on them lowers the solvable share (docs/proof/README.md).
"""

from __future__ import annotations

import random

from sq.domains.arithmetic.families import FAMILIES, KNOWN, MOST_STEPS, problem
from sq.domains.arithmetic.oracle import MAX_CHARS, analyse, read_sentence, split

DRAFTS = 8


def fix(question: str, rng: random.Random) -> str:
    """The question itself where it can be solved and asks for a step or more; else one of its sort, about as long."""
    before = analyse(question)
    return question if before.solvable and before.steps else _draft(question, rng, 0)


def add_steps(question: str, rng: random.Random, most: int = MOST_STEPS) -> str:
    """One of its sort with one step more, the question itself where none has; if it cannot be solved, one longer."""
    before = analyse(question)
    if not before.solvable:
        return _draft(question, rng, 1)
    goal = before.steps + 1
    families = [name for name in families_of(question) if FAMILIES[name].most_steps >= min(goal, MOST_STEPS)]
    if not families or goal > most:
        return question
    return problem(rng, low=goal, high=goal, families=families).question


def families_of(question: str) -> list[str]:
    """Of the seeds' families those that a sentence of the question is of; all of them where none is."""
    themes = {read.kind.theme for s in split(question[:MAX_CHARS]) if (read := read_sentence(s))}
    return [name for name in KNOWN if name in themes] or list(KNOWN)


def _draft(question: str, rng: random.Random, more: int) -> str:
    """Of some drafts the one whose number of sentences is nearest to the question's and `more`."""
    length = len(split(question[:MAX_CHARS])) + more
    drafts = [problem(rng, families=families_of(question)).question for _ in range(DRAFTS)]
    return min(drafts, key=lambda draft: abs(len(split(draft)) - length))
