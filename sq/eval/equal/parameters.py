"""Letters whose name does not matter: the constant of an antiderivative, and what runs over the integers."""

from __future__ import annotations

import re
from itertools import permutations

from sq.eval.equal.tree import ANY_INTEGER, Const, Node, Op, Sym, replace, symbols, walk

_RUNNING = frozenset("n k m l t j".split())
_COUNTING = frozenset("n k m".split())
_CONSTANT = re.compile(r"[CcKkAB](?:_\d)?")
_SOLUTIONS = frozenset("exp sin cos sinh cosh ln".split())
MAX_CONSTANTS = 3


def same_constants(answer: Node, reference: Node) -> list[Node]:
    """What an answer may say in the reference's letters for arbitrary constants: `A e^x` for `C e^x`."""
    mine, wanted = (sorted(n for n in symbols(side) if _CONSTANT.fullmatch(n)) for side in (answer, reference))
    if not mine or len(mine) != len(wanted) or len(mine) > MAX_CONSTANTS or not _arbitrary(mine, wanted, reference):
        return [answer]
    return [replace(answer, dict(zip(mine, map(Sym, order), strict=True))) for order in permutations(wanted)]


def _numbered(names: list[str]) -> bool:
    """Whether the constants are all numbered from 1, or none is."""
    marks = [n[2:] for n in names]
    return not any(marks) or marks == [str(k) for k in range(1, len(names) + 1)]


def _arbitrary(mine: list[str], wanted: list[str], reference: Node) -> bool:
    """Whether the letters can be constants of integration: one that is a term of its own, or one or more beside e."""
    if not (_numbered(mine) and _numbered(wanted)):
        return False
    if len(mine) == 1 and isinstance(reference, Op) and reference.op == "add" and Sym(wanted[0]) in reference.args:
        return {mine[0][0], wanted[0][0]} <= set("CcKk")
    if [m.upper() for m in mine] == [w.upper() for w in wanted] and mine[0][0] in "Cc":
        return True
    grows = any(isinstance(n, Op) and n.op in _SOLUTIONS for n in walk(reference)) or Const("e") in walk(reference)
    return grows and ("C" in {n[0].upper() for n in mine} or "C" in {n[0].upper() for n in wanted})


def same_parameter(answer: Node, reference: Node) -> tuple[Node, Node]:
    """The letter that runs over the integers under one name: `n pi` for `k pi, k in Z`."""
    ours, theirs = symbols(answer), symbols(reference)
    if len(ours) == len(theirs) == 1 and ours != theirs and ours | theirs <= _COUNTING and _periodic(answer, reference):
        return replace(answer, {min(ours): Sym(min(theirs))}), reference
    if ANY_INTEGER in theirs and ANY_INTEGER not in ours and len(ours) == 1 and ours <= _RUNNING:
        return replace(answer, {min(ours): Sym(ANY_INTEGER)}), reference
    if ANY_INTEGER in ours and ANY_INTEGER not in theirs and len(theirs) == 1 and theirs <= _RUNNING:
        return answer, replace(reference, {min(theirs): Sym(ANY_INTEGER)})
    return answer, reference


def _periodic(*nodes: Node) -> bool:
    """Whether pi stands in all, so that a letter such as k counts half turns."""
    return all(Const("pi") in walk(n) for n in nodes)
