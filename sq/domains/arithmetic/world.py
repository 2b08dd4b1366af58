"""The small world a question talks about: named quantities, each a node of a graph of arithmetic operations.

Statements bind and change quantities; nothing is computed until it can be, so a sentence may refer to a quantity that a
later one states ("Tom has 5 more apples than Ben. Ben has 7 apples."). What the asked node needs of the graph is the
number of steps, and the graph in the question's order is the worked solution.
"""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction

Number = int | Fraction


class Reason(StrEnum):
    """Why a question is solvable (`OK`) or not."""

    OK = "ok"
    EMPTY = "empty text"
    TOO_LONG = "text too long"
    UNPARSED = "sentence not understood"
    MISSING = "missing quantity"
    CONTRADICTION = "contradiction"
    NEGATIVE = "negative amount"
    FRACTIONAL = "fraction of an indivisible thing"
    NO_QUESTION = "no question asked"
    SEVERAL = "several questions"
    TRAILING = "text after the question"
    UNKNOWN = "asks about something never mentioned"


class UnsolvableError(Exception):
    """Ends the execution of a question that cannot be solved."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(str(reason))


class Node:
    """A quantity: a leaf (stated, missing or not yet stated), or an operation on two others.

    `whole` holds for what comes in integers (people, things).
    """

    __slots__ = ("after", "before", "index", "left", "op", "right", "value", "whole")

    def __init__(self, value: Number | None, index: int) -> None:
        self.value = value
        self.index = index
        self.op = ""
        self.left: Node | None = None
        self.right: Node | None = None
        self.before = ""
        self.after = ""
        self.whole = False

    @property
    def stated(self) -> bool:
        return not self.op

    def resolve(self) -> bool:
        """Compute the value if both sides have one; True when it is (now) known."""
        if self.value is not None:
            return True
        if self.left is None:
            return False
        if self.op == "=":
            self.value = self.left.value
        elif self.right is not None and self.left.value is not None and self.right.value is not None:
            self.value = _compute(self.op, self.left.value, self.right.value)
        if self.value is None:
            return False
        if self.op != "=":
            check_amount(self.value, self.whole)
        return True


class World:
    """Quantities by key, what "he" or "it" refers to, and the operations in the order they came up."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.now: dict[str, Node] = {}
        self.subject: str | None = None

    def leaf(self, value: Number | None) -> Node:
        node = Node(value, len(self.nodes))
        self.nodes.append(node)
        return node

    def get(self, key: str) -> Node:
        """The quantity at this moment; one that was never stated becomes a leaf that a later sentence may state."""
        node = self.now.get(key)
        if node is None:
            node = self.now[key] = self.leaf(None)
        return node

    def asked(self, key: str) -> Node:
        """The quantity a question asks for, which must have been mentioned."""
        node = self.now.get(key)
        if node is None:
            raise UnsolvableError(Reason.UNKNOWN)
        return node

    def state(self, key: str, node: Node) -> None:
        """Bind a quantity. Stating it twice with different values is a contradiction."""
        old = self.now.get(key)
        if old is None:
            self.now[key] = node
        elif old.stated and old.value is None and old.left is None and old is not node:
            if node.value is None and node.stated:
                return  # stated as "some": it stays unknown
            old.op, old.left = "=", node
            old.resolve()
        elif old.value is None or node.value is None or old.value != node.value:
            raise UnsolvableError(Reason.CONTRADICTION)

    def put(self, key: str, node: Node) -> None:
        """A quantity changes by an event."""
        self.now[key] = node

    def calc(self, op: str, left: Node, right: Node, before: str, after: str, *, whole: bool = False) -> Node:
        """The operation `left op right`, written as "before 3 + 4 = 7 after"."""
        node = Node(None, len(self.nodes))
        node.op, node.left, node.right = op, left, right
        node.before, node.after, node.whole = before, after, whole
        self.nodes.append(node)
        node.resolve()
        return node

    def resolve_all(self) -> None:
        """Compute everything that can be, now that all sentences are read."""
        waiting = [node for node in self.nodes if node.value is None and node.op]
        while True:
            still = [node for node in waiting if not node.resolve()]
            if len(still) == len(waiting):
                return
            waiting = still


def check_amount(value: Number, whole: bool) -> None:
    """Refuse half a person, and fewer than no apples."""
    if value < 0:
        raise UnsolvableError(Reason.NEGATIVE)
    if whole and type(value) is not int:
        raise UnsolvableError(Reason.FRACTIONAL)


def needed(asked: Node) -> list[Node]:
    """The operations that the asked quantity needs, in the question's order (and after what they need themselves)."""
    seen = {asked.index: asked}
    stack = [asked]
    forward = False
    while stack:
        node = stack.pop()
        for child in (node.left, node.right):
            if child is not None and child.index not in seen:
                forward = forward or child.index > node.index
                seen[child.index] = child
                if child.op:
                    stack.append(child)
    nodes = [seen[i] for i in sorted(seen) if seen[i].op]
    return [node for node in (_sorted(nodes) if forward else nodes) if node.op != "="]


def _sorted(waiting: list[Node]) -> list[Node]:
    """Each operation after those it needs, otherwise in order: some sentence spoke of what a later one states."""
    late = {node.index for node in waiting}
    ordered = []
    while waiting:
        ready = next(
            node for node in waiting if not any(c is not None and c.index in late for c in (node.left, node.right))
        )
        waiting.remove(ready)
        late.discard(ready.index)
        ordered.append(ready)
    return ordered


def _compute(op: str, left: Number, right: Number) -> Number | None:
    if op == "+":
        result: Number = left + right
    elif op == "-":
        result = left - right
    elif op == "*":
        result = left * right
    else:
        if right == 0:
            raise UnsolvableError(Reason.CONTRADICTION)
        result = Fraction(left) / right
    return plain(result)


def plain(value: Number) -> Number:
    """An int where the value is one."""
    return int(value) if type(value) is Fraction and value.denominator == 1 else value
