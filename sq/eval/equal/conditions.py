"""Answers that hold under a condition: residues with their modulus, set-builders, definitions by cases.

Each rule says whether an answer says what the reference says, or None where neither side is of its kind.
"""

from __future__ import annotations

from collections.abc import Callable

from sq.eval.equal import relations
from sq.eval.equal.rational import exact
from sq.eval.equal.tree import Node, Op, Quantity, Rel, Seq, Sym, Text, replace, symbols, walk

Compare = Callable[[Node, Node], bool]
_ELSE = frozenset({"otherwise", "else", "elsewhere"})
_COUNTERS = frozenset("nkm")
MAX_CASES = 20


def congruent(compare: Compare, a: Node, r: Node) -> bool | None:
    """`10 (mod 7)` is `3 (mod 7)`; a modulus that only one side names says nothing."""
    (ours, modulus), (theirs, other) = _residue(a), _residue(r)
    if modulus is None and other is None:
        return None
    if modulus is None or other is None:
        return compare(ours, theirs)
    if not compare(modulus, other):
        return False
    whole, x, y = exact(modulus), _value(ours), _value(theirs)
    if whole and x is not None and y is not None and (x - y) % whole == 0:
        return _name(ours) == _name(theirs) or not (_name(ours) and _name(theirs))
    return compare(ours, theirs)


def excluded(compare: Compare, a: Node, r: Node) -> bool | None:
    """An expression with the points at which it is not defined, and the expression alone."""
    ours, theirs = _without_exclusions(a), _without_exclusions(r)
    return compare(ours, theirs) if (ours is a) != (theirs is r) else None


def _without_exclusions(node: Node) -> Node:
    if not (isinstance(node, Seq) and node.left == "" and len(node.items) > 1):
        return node
    first, rest = node.items[0], node.items[1:]
    excluding = all(isinstance(i, Rel) and i.ops == ("!=",) for i in rest)
    if all(isinstance(i, Rel) and "=" not in i.ops and symbols(i) <= _COUNTERS for i in rest):  # 2n - 1, n >= 1
        excluding = excluding or not isinstance(first, Rel)
    formula = not isinstance(first, Rel) or first.ops == ("=",)
    return first if excluding and formula and symbols(first) else node


def builders(compare: Compare, a: Node, r: Node) -> bool | None:
    """`{2k | k in Z}` is `{2n | n in Z}`: the letter that only runs is a dummy; what is collected counts."""
    if not (isinstance(a, Op) and isinstance(r, Op) and a.op == r.op == "builder"):
        return None
    if len(a.args) == len(r.args) == 1:
        return None
    if len(a.args) != len(r.args) or a.args[2] != r.args[2]:
        return False
    ours, theirs = symbols(a.args[1]), symbols(r.args[1])
    condition, element = a.args[:2]
    if len(ours) == len(theirs) == 1 and ours != theirs:
        condition, element = (_renamed(n, min(ours), min(theirs)) for n in (condition, element))
    return compare(element, r.args[1]) and compare(condition, r.args[0])


def cases(compare: Compare, a: Node, r: Node) -> bool | None:
    """The same values under the same conditions, in any order; `otherwise` is whatever condition is left."""
    if not (isinstance(a, Op) and isinstance(r, Op) and a.op == r.op == "cases"):
        return None
    ours = list(zip(a.args[::2], a.args[1::2], strict=True))
    theirs = list(zip(r.args[::2], r.args[1::2], strict=True))
    if len(ours) != len(theirs) or len(ours) > MAX_CASES:
        return False
    for value, condition in sorted(theirs, key=lambda case: _is_else(case[1])):
        match = next((c for c in ours if compare(c[0], value) and _same_condition(compare, c[1], condition)), None)
        if match is None:
            left = [c for c in ours if _is_else(c[1]) or _is_else(condition)]
            match = next((c for c in left if compare(c[0], value)), None)
        if match is None:
            return False
        ours.remove(match)
    return True


def _same_condition(compare: Compare, a: Node, r: Node) -> bool:
    if _is_else(a) and _is_else(r):
        return True
    return isinstance(a, Text) == isinstance(r, Text) and _said(a) == _said(r) and compare(a, r)


def _said(node: Node) -> list[str]:
    """The words in a condition: `n even` is not `n odd`, though as units such words would say nothing."""
    return sorted(n.unit for n in walk(node) if isinstance(n, Quantity))


def _is_else(node: Node) -> bool:
    return isinstance(node, Text) and node.words.lower() in _ELSE


def _residue(node: Node) -> tuple[Node, Node | None]:
    return (node.args[0], node.args[1]) if isinstance(node, Op) and node.op == "mod" else (node, None)


def _name(node: Node) -> str:
    found = relations.named(node)
    return found[0] if found else ""


def _value(node: Node) -> int | None:
    found = relations.named(node)
    value = exact(found[1][-1] if found else node) if found or not isinstance(node, Rel | Seq) else None
    return int(value) if value is not None and value.denominator == 1 else None


def _renamed(node: Node, ours: str, theirs: str) -> Node:
    if isinstance(node, Seq):
        return Seq(node.left, node.right, tuple(_renamed(i, ours, theirs) for i in node.items))
    found = replace(node, {ours: Sym(theirs)})
    if isinstance(found, Rel):
        return Rel(found.parts, found.ops, tuple(theirs if n == ours else n for n in found.names))
    return found
