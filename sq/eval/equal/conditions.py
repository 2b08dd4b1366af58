"""Answers that hold under a condition: residues with their modulus, expressions with the points they leave out.

Each rule says whether an answer says what the reference says, or None where neither side is of its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from sq.eval.equal import relations
from sq.eval.equal.rational import exact
from sq.eval.equal.tree import Node, Num, Op, Rel, Seq, symbols

Compare = Callable[[Node, Node], bool]
_COUNTERS = frozenset("nkm")
_STARTS = (Num(Fraction(0)), Num(Fraction(1)))


def congruent(compare: Compare, a: Node, r: Node) -> bool | None:
    """`10 (mod 7)` is `3 (mod 7)`; a modulus that only one side names says nothing."""
    (ours, modulus), (theirs, other) = _residue(a), _residue(r)
    if modulus is None and other is None:
        return None
    if modulus is None or other is None:
        return compare(ours, theirs)
    (name, value), (other_name, wanted) = _named_value(ours), _named_value(theirs)
    gap = exact(Op("add", (value, Op("neg", (wanted,)))))
    same_class = gap is not None and exact(modulus) and gap % (exact(modulus) or 1) == 0
    return compare(modulus, other) and (
        (same_class and (name == other_name or not (name and other_name))) or compare(ours, theirs)
    )


def excluded(compare: Compare, a: Node, r: Node) -> bool | None:
    """An expression with the points at which it is not defined, and the expression alone.

    An answer may add where a letter of it starts counting, `n = 2^k, k >= 0`, and may not leave that out.
    """
    ours, theirs = _without_exclusions(a, starts=True), _without_exclusions(r, starts=False)
    return compare(ours, theirs) if (ours is a) != (theirs is r) else None


def _without_exclusions(node: Node, *, starts: bool) -> Node:
    """The expression alone; where a letter of a named value starts counting is dropped only if `starts` says so."""
    if not (isinstance(node, Seq) and node.left == "" and len(node.items) > 1):
        return node
    first, rest = node.items[0], node.items[1:]
    excluding = all(isinstance(i, Rel) and i.ops == ("!=",) for i in rest)
    if all(isinstance(i, Rel) and "=" not in i.ops and symbols(i) <= _COUNTERS for i in rest):  # 2n - 1, n >= 1
        excluding = excluding or not isinstance(first, Rel) or (starts and all(_counts(i, first) for i in rest))
    formula = not isinstance(first, Rel) or first.ops == ("=",)
    return first if excluding and formula and symbols(first) else node


def _counts(condition: Node, formula: Rel) -> bool:
    """Whether a condition lets a letter of a named value count from 0 or 1 on: `n = 2^k, k >= 0`."""
    named = relations.named(formula)
    starts = isinstance(condition, Rel) and len(condition.parts) == 2 and condition.parts[1] in _STARTS
    return bool(named) and starts and symbols(condition) <= symbols(formula.parts[-1])


def _residue(node: Node) -> tuple[Node, Node | None]:
    return (node.args[0], node.args[1]) if isinstance(node, Op) and node.op == "mod" else (node, None)


def _named_value(node: Node) -> tuple[str, Node]:
    named = relations.named(node)
    return (named[0], named[1][-1]) if named else ("", node)
