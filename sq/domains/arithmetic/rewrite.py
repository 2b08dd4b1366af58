"""Rewriting a question, as an optimiser would: another of the same sort, that can be solved and is as long or longer.

It asks for the same: or else what is hard to ask well, "how many more", would be what QPO leaves out, and students
that never saw it cannot solve it. Small edits of the question itself, a name or a sentence, were tried as well: they
are solvable, but no longer read as the seeds do, and QPO on them lowers the solvable share (docs/proof/README.md).
"""

from __future__ import annotations

import random

from sq.domains.arithmetic.families import FAMILIES, KNOWN, MOST_STEPS, problem
from sq.domains.arithmetic.oracle import MAX_CHARS, Sentence, analyse, read_sentence, split
from sq.domains.arithmetic.themes import KINDS

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
    families, asks = _sort(question, goal)
    if not families or goal > most:
        return question
    return problem(rng, low=goal, high=goal, families=families, asks=asks).question


def families_of(question: str) -> list[str]:
    """Of the seeds' families those that a sentence of the question is of; all of them where none is."""
    themes = {read.kind.theme for read in _read(question)}
    return [name for name in KNOWN if name in themes] or list(KNOWN)


def _sort(question: str, steps: int | None = None) -> tuple[list[str], str | None]:
    """Its families that can ask for the same in so many steps, and what that is; where none can, for anything."""
    asks = next((read.kind.role.name for read in reversed(_read(question)) if read.kind.role.asks), None)
    families = families_of(question)
    if steps is not None:
        families = [name for name in families if FAMILIES[name].most_steps >= min(steps, MOST_STEPS)]
    roles = {name: [k.role for k in KINDS[name] if k.role.cost <= (steps or MOST_STEPS)] for name in families}
    able = [name for name in families if any(role.name == asks for role in roles[name])]
    return (able, asks) if able else (families, None)


def _read(question: str) -> list[Sentence]:
    """The sentences that are of the language."""
    return [read for s in split(question[:MAX_CHARS]) if (read := read_sentence(s))]


def _draft(question: str, rng: random.Random, more: int) -> str:
    """Of some drafts the one whose number of sentences is nearest to the question's and `more`."""
    length = len(split(question[:MAX_CHARS])) + more
    families, asks = _sort(question)
    drafts = [problem(rng, families=families, asks=asks).question for _ in range(DRAFTS)]
    return min(drafts, key=lambda draft: abs(len(split(draft)) - length))
