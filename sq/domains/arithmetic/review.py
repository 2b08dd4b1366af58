"""A question gone through sentence by sentence, up to its end or its first fault: what a judge that reasons writes.

Every sentence is said again with what follows from it: "Sam has 3 more apples than Tom. Sam and Tom, 12 + 3 = 15 have
Sam apples". Two of a kind are named first, so that one compared with itself is seen, and a quantity stands after its
sum, so that a sum below zero begins as every other. What nobody stated is "?". So each thing to find out depends on
the sentence just said and on few numbers.
"""

from __future__ import annotations

from sq.domains.arithmetic.oracle import PAIRS, Sentence, analyse, execute, read_sentence, split
from sq.domains.arithmetic.world import Node, Reason, UnsolvableError, World


def review(question: str) -> str:
    """The sentences and what follows from them, then the answer and "Answer: Yes", or the fault and "Answer: No"."""
    world, asked = World(), False
    lines: list[str] = []
    for text in split(question):
        sentence = read_sentence(text)
        if sentence is None or asked:
            trailing = Reason.SEVERAL if sentence and sentence.kind.role.asks else Reason.TRAILING
            return _verdict([*lines, text], Reason.UNPARSED if sentence is None else trailing)
        asked = sentence.kind.role.asks
        follows, stop = _execute(world, sentence)
        lines.append(f"{text} {', '.join(follows)}".rstrip())
        if stop is not None:
            return _verdict(lines, stop)
    whole = analyse(question)
    if whole.solvable:
        lines.append(rf"\boxed{{{whole.answer}}}")
    return _verdict(lines, whole.reason)


def _execute(world: World, sentence: Sentence) -> tuple[list[str], Reason | None]:
    start, stop, node = len(world.nodes), None, None
    try:
        node = execute(world, sentence.kind, sentence.slots)
    except UnsolvableError as error:
        stop = error.reason
    keys = {id(one): key for key, one in world.now.items()}
    new = [one for one in world.nodes[start:] if one.op or id(one) in keys]
    slots = sentence.slots
    follows = [f"{slots[a]} and {slots[b]}" for a, b in PAIRS.items() if a in slots and b in slots]
    follows += [_bound(keys.get(id(one)), _said(one)) for one in new]
    if node is not None and node.index < start:  # asked for, and known from before
        follows.append(_number(node))
    return follows, stop


def _bound(key: str | None, value: str) -> str:
    return value if key is None else f"{value} {key}"


def _said(node: Node) -> str:
    if not node.op or node.left is None or node.right is None:
        return _number(node)
    return f"{_number(node.left)} {node.op} {_number(node.right)} = {_number(node)}"


def _number(node: Node | None) -> str:
    return "?" if node is None or node.value is None else str(node.value)


def _verdict(lines: list[str], fault: Reason) -> str:
    if fault is Reason.OK:
        return "\n".join([*lines, "Answer: Yes"])
    return "\n".join([*lines, f"Fault: {fault}", "Answer: No"])
