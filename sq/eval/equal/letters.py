"""Letters whose name does not matter: the constant of an antiderivative, and what runs over the integers."""

from __future__ import annotations

from sq.eval.equal.tree import ANY_INTEGER, Const, Node, Op, Sym, replace, symbols, walk

_RUNNING = frozenset("n k m l t j".split())
_COUNTING = frozenset("n k m".split())


def same_constant(answer: Node, reference: Node) -> Node:
    """An antiderivative's constant under the reference's letter: `+ c` for `+ C`."""
    ours, theirs = _constant(answer), _constant(reference)
    if ours and theirs and ours != theirs and theirs not in symbols(answer):
        return replace(answer, {ours: Sym(theirs)})
    return answer


def _constant(node: Node) -> str:
    terms = [t.name for t in node.args if isinstance(t, Sym)] if isinstance(node, Op) and node.op == "add" else []
    found = [t for t in terms if t in ("C", "c", "K", "k")]
    return found[0] if len(found) == 1 else ""


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
