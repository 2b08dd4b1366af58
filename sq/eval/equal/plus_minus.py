"""Plus-or-minus signs: the answers that `1 \\pm \\sqrt{5}` stands for."""

from __future__ import annotations

from itertools import product

from sq.eval.equal.tree import Node, Op, ParseError, Seq, mapped, walk

MAX_SIGNS = 3


def has(node: Node) -> bool:
    """Whether an answer, or an item of a list or set, has such a sign; a tuple with one stays a tuple."""
    if isinstance(node, Seq) and node.left not in ("", "\\{"):
        return False
    return any(isinstance(n, Op) and n.op in ("pm", "mp") for n in walk(node))


def lists_tuples(a: Node, b: Node) -> bool:
    """Whether one side is a tuple with such a sign, and the other the list of tuples it may stand for."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Seq) and one.left == "(" and any(isinstance(n, Op) and n.op == "pm" for n in walk(one)):
            if isinstance(other, Seq) and other.left in ("", "\\{") and all(isinstance(i, Seq) for i in other.items):
                return True
    return False


def expanded(node: Node) -> list[Node]:
    """Every value of a node: the signs are free of one another, but minus-or-plus is the opposite of the first."""
    count = sum(isinstance(n, Op) and n.op == "pm" for n in walk(node))
    opposite = any(isinstance(n, Op) and n.op == "mp" for n in walk(node))
    if not count and not opposite:
        return [node]
    if count > MAX_SIGNS:
        raise ParseError("too many plus-or-minus signs")
    together = [(1,) * max(count, 1), (-1,) * max(count, 1)]
    return [_with(node, list(s)) for s in (together if opposite else product((1, -1), repeat=count))]


def _with(node: Node, signs: list[int]) -> Node:
    if isinstance(node, Op) and node.op in ("pm", "mp"):
        sign = signs.pop(0) if node.op == "pm" else -(signs[0] if signs else 1)
        inner = _with(node.args[0], signs)
        return inner if sign > 0 else Op("neg", (inner,))
    return mapped(node, lambda n: _with(n, signs))
