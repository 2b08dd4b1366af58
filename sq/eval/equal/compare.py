"""Whether one tree answers another: lists, tuples, sets, intervals, matrices, relations, quantities, expressions.

Tuples and intervals keep their order and brackets; several answers listed bare, or in a set, may come in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from sq.eval.equal import conditions, matrices, parameters, plus_minus, relations, sets
from sq.eval.equal.numbers import Tolerance, same_base, same_quantity, without_degrees, without_unit_letter
from sq.eval.equal.tree import (
    Base,
    Clock,
    Const,
    Matrix,
    Node,
    Op,
    Quantity,
    Rel,
    Seq,
    Sym,
    Text,
    symbols,
    walk,
)
from sq.eval.equal.words import same_words

MAX_ITEMS = 100
_OPEN = {"(": "(", "<<": "(", "[": "[", "\\{": "{"}


class Comparison:
    """One comparison, with the tolerance that the reference allows."""

    def __init__(self, tolerance: Tolerance) -> None:
        self.tolerance = tolerance

    def __call__(self, answer: Node, reference: Node) -> bool:
        """Whether `answer` says what `reference` says."""
        if answer == reference or sets.hold_other_sets(answer, reference):
            return answer == reference
        answer, reference = parameters.same_parameter(_plain(answer), _plain(reference))
        if plus_minus.has(answer) or plus_minus.has(reference) or plus_minus.lists_tuples(answer, reference):
            return self.lists(_expanded(answer), _expanded(reference))
        for rule in _RULES:
            equal = rule(self, answer, reference)
            if equal is not None:
                return equal
        if not symbols(reference) and not isinstance(reference, Quantity):
            answer = without_unit_letter(answer)
        renamed = parameters.same_constants(answer, reference) if symbols(reference) else [answer]
        if any(same_quantity(one, reference, self.tolerance) for one in renamed):
            return True
        plain = without_degrees(answer), without_degrees(reference)
        unsigned = (plain[0] != answer) != (plain[1] != reference) and bool(symbols(reference))
        return unsigned and same_quantity(*plain, self.tolerance)

    def lists(self, answers: list[Node], references: list[Node]) -> bool:
        """Several answers in any order, each matched once; in order where only one side names them apart."""
        answers, references = (relations.solutions(relations.spread(side)) for side in (answers, references))
        counted, also = relations.enumerated(answers), relations.enumerated(references)
        if bool(counted) != bool(also):
            answers, references = list(counted or answers), list(also or references)
        apart = _named_apart(answers) or _named_apart(references)
        if not (apart and all(map(relations.named, answers)) and all(map(relations.named, references))):
            answers, references = _share_name(answers), _share_name(references)
        answers, references = _distinct(answers), _distinct(references)
        if len(answers) != len(references) or len(references) > MAX_ITEMS:
            return False
        if _named_apart(answers) != _named_apart(references):
            return self.ordered(tuple(answers), tuple(references))
        left = list(answers)
        unmatched = []
        for compare, reference in self._each(references):  # those alike to the letter, before any are computed
            left.remove(reference) if reference in left else unmatched.append((compare, reference))
        for compare, reference in unmatched:
            match = next((k for k, a in enumerate(left) if compare(a, reference)), None)
            if match is None:
                return False
            left.pop(match)
        return True

    def ordered(self, answers: tuple[Node, ...], references: tuple[Node, ...]) -> bool:
        """Items one by one."""
        each = self._each(references)
        return len(answers) == len(each) and all(same(a, r) for a, (same, r) in zip(answers, each, strict=True))

    def _each(self, references: Sequence[Node]) -> list[tuple[Comparison, Node]]:
        """Several values, each with the comparison that allows its own error."""
        count = len(references)
        return [(Comparison(self.tolerance.of_value(k, count)), r) for k, r in enumerate(references)]


def _words(compare: Comparison, a: Node, r: Node) -> bool | None:
    if isinstance(r, Text):
        return isinstance(a, Text) and same_words(a.words, r.words)
    return False if isinstance(a, Text) else None


def _clock(compare: Comparison, a: Node, r: Node) -> bool | None:
    if isinstance(a, Clock) and isinstance(r, Clock):
        halves = {a.half, r.half} - {""}
        return (_full(a.parts) == _full(r.parts) and len(halves) < 2) or _of_day(a) == _of_day(r)
    return False if isinstance(a, Clock) or isinstance(r, Clock) else None


def _of_day(clock: Clock) -> tuple[int, ...]:
    """The time by the clock of 24 hours."""
    hour, *rest = _full(clock.parts)
    return (hour % 12 + 12 * (clock.half == "p") if clock.half and hour <= 12 else hour, *rest)


def _full(parts: tuple[int, ...]) -> tuple[int, ...]:
    return (*parts, 0)[:3]


def _base(compare: Comparison, a: Node, r: Node) -> bool | None:
    (ours, minus), (theirs, negative) = _unsigned(a), _unsigned(r)
    if isinstance(ours, Base) or isinstance(theirs, Base):
        return minus == negative and same_base(ours, theirs)
    return None


def _unsigned(node: Node) -> tuple[Node, bool]:
    return (node.args[0], True) if isinstance(node, Op) and node.op == "neg" else (node, False)


def _connective(compare: Comparison, a: Node, r: Node) -> bool | None:
    """`p or q` is not `p and q`, nor `x in A` what `x = A`; but `x = 1 and x = 2` lists as `x = 1 or x = 2`."""
    if _is_alternative(a) != _is_alternative(r) and _gives_several(a) and _gives_several(r):
        return False
    if isinstance(a, Seq) and isinstance(r, Seq) and not a.left and not r.left and {a.right, r.right} == {"and", "or"}:
        return False if all(map(_is_statement, (*a.items, *r.items))) else None
    if isinstance(a, Rel) and isinstance(r, Rel) and {a.ops, r.ops} == {("in",), ("=",)}:
        value = (a if a.ops == ("=",) else r).parts[1]
        return False if isinstance(value, Sym) or (isinstance(value, Seq) and value.left == "\\{") else None
    return None


def _is_alternative(node: Node) -> bool:
    """Whether it says that one of several unknowns is what is said of it: `x = 1 or y = 2`, `x > 1 or y > 2`."""
    unknowns = [relations.unknown(item) for item in node.items] if isinstance(node, Seq) and node.right == "or" else []
    return len(unknowns) > 1 and all(unknowns) and len(set(unknowns)) == len(unknowns)


def _gives_several(node: Node) -> bool:
    return isinstance(node, Seq) or len(relations.spread([node])) > 1


def _is_statement(node: Node) -> bool:
    return isinstance(node, Sym) or (isinstance(node, Rel) and node.ops == ("!=",))


def _relation(compare: Comparison, a: Node, r: Node) -> bool | None:
    ours, theirs = relations.named(a), relations.named(r)
    if bool(ours) != bool(theirs) and (isinstance(a, Seq) or isinstance(r, Seq)):
        apart = _apart(compare, a, r)  # x = 1, y = 2 for (x, y) = (1, 2)
        if apart is not None:
            return apart
    if ours and theirs:
        if relations.common_name(ours[0], theirs[0]):
            values = [relations.renamed(v, ours[0], theirs[0]) for v in ours[1]]
            if len(values) == len(theirs[1]):  # the exact value with the exact value
                return compare(values[0], theirs[1][0])
            return any(compare(v, w) for v, w in product(values, theirs[1]))
        return isinstance(a, Rel) and isinstance(r, Rel) and relations.same_equation(a, r)
    if isinstance(a, Rel) and isinstance(r, Rel) and (_chain(compare, a, r) or relations.same_equation(a, r)):
        return True
    if ours and not isinstance(r, Rel):
        return any(compare(v, r) for v in ours[1])
    if theirs and not isinstance(a, Rel):
        return any(compare(a, w) for w in theirs[1])
    return _unnamed(compare, a, r)


def _unnamed(compare: Comparison, a: Node, r: Node) -> bool | None:
    ours, theirs = relations.plain_values(a), relations.plain_values(r)
    if ours and not isinstance(r, Rel):
        return any(compare(v, r) for v in ours)
    if theirs and not isinstance(a, Rel):
        return any(compare(a, w) for w in theirs)
    return None


def _chain(compare: Comparison, a: Rel, r: Rel) -> bool:
    """Relations part by part, read from either end."""
    if len(a.ops) != len(r.ops):
        return False
    backward = tuple(relations.FLIP.get(op, op) for op in reversed(a.ops))
    for ops, parts in ((a.ops, a.parts), (backward, a.parts[::-1])):
        if ops == r.ops and compare.ordered(parts, r.parts):
            return True
    return False


def _real_sets(compare: Comparison, a: Node, r: Node) -> bool | None:
    """Sets of numbers, once one side can be nothing else."""
    if not (sets.is_set(a) or sets.is_set(r)) or (isinstance(a, Seq) and isinstance(r, Seq) and a.left and r.left):
        return None
    if relations.of_other_variables(a, r):
        return False
    ours, theirs = sets.real_set(a), sets.real_set(r)
    if ours is None or theirs is None:
        return False if isinstance(a, Rel) != isinstance(r, Rel) else None
    return sets.same_set(ours, theirs)


def _unions(compare: Comparison, a: Node, r: Node) -> bool | None:
    """Unions whose ends are not plain numbers: their parts in any order."""
    ours, theirs = _parts(a), _parts(r)
    if len(ours) == 1 and len(theirs) == 1:
        return None
    return compare.lists(ours, theirs)


def _parts(node: Node) -> list[Node]:
    if isinstance(node, Op) and node.op == "cup":
        return [*_parts(node.args[0]), *_parts(node.args[1])]
    return [node]


def _sequences(compare: Comparison, a: Node, r: Node) -> bool | None:
    left, right = isinstance(a, Seq), isinstance(r, Seq)
    if not (left or right):
        return None
    if isinstance(a, Seq) and isinstance(r, Seq):
        if a.left == r.left == "\\{":
            a, r = (s._replace(items=tuple(dict.fromkeys(s.items))) for s in (a, r))
        kinds = {a.left, r.left}
        if kinds <= {"", "\\{"}:
            return compare.lists(list(a.items), list(r.items))
        if _all_named(a.items) or _all_named(r.items):
            return compare.lists(list(a.items), list(r.items))
        if "" in kinds:
            other = a if r.left == "" else r
            return other.left == "(" and other.right == ")" and compare.ordered(a.items, r.items)
        same_ends = _OPEN[a.left] == _OPEN[r.left] and _shut(a.right) == _shut(r.right)
        return same_ends and compare.ordered(a.items, r.items)
    apart = _apart(compare, a, r)
    if apart is not None:
        return apart
    if isinstance(a, Seq) and (len(a.items) == 1 or (a.left == "" and a.right == "or")):
        return not sets.sets_held(a) and all(compare(item, r) for item in a.items)  # `1/2 or 0.5` is one answer
    if isinstance(r, Seq) and (len(r.items) == 1 or (r.left == "" and r.right == "or")):
        return not sets.sets_held(r) and all(compare(a, item) for item in r.items)
    return None if _has_matrix(a) or _has_matrix(r) else False


def _apart(compare: Comparison, a: Node, r: Node) -> bool | None:
    """One side is a sequence: the other may be named part by part."""
    sequence, other = (a, r) if isinstance(a, Seq) else (r, a)
    if not isinstance(sequence, Seq):
        return None
    if isinstance(other, Op) and other.op == "call" and sequence.left == "(" and _is_point(other.args[0]):
        return compare.ordered(*((other.args[1:], sequence.items) if a is other else (sequence.items, other.args[1:])))
    if sequence.left == "" and _all_named(sequence.items) and isinstance(other, Rel):
        return compare.lists([a] if a is other else list(sequence.items), [r] if r is other else list(sequence.items))
    return None


def _is_point(node: Node) -> bool:
    """Whether what is called with coordinates is a point's name: `A(0, 5)`."""
    return isinstance(node, Sym) and len(node.name) == 1 and node.name.isupper()


def _shut(bracket: str) -> str:
    return ")" if bracket == ">>" else bracket


def _matrix(compare: Comparison, a: Node, r: Node) -> bool | None:
    ours, theirs = matrices.as_matrix(a), matrices.as_matrix(r)
    if ours is None or theirs is None:  # [[1, 2], [3, 4]]
        ours, theirs = (
            ours or (matrices.of_rows(a) if theirs else None),
            theirs or (matrices.of_rows(r) if ours else None),
        )
    if ours is not None and theirs is not None:
        return len(ours.rows) == len(theirs.rows) and all(
            compare.ordered(x, y) for x, y in zip(ours.rows, theirs.rows, strict=True)
        )
    if ours is None and theirs is None:
        return None
    column = matrices.as_column(a if ours is not None else r)
    items = matrices.vector(r if ours is not None else a)
    if column is None or items is None:
        return False
    return compare.ordered(column, items) if ours is not None else compare.ordered(items, column)


def _ratio(compare: Comparison, a: Node, r: Node) -> bool | None:
    """Ratios of three or more are equal when proportional."""
    if not (isinstance(a, Op) and isinstance(r, Op) and a.op == r.op == "ratio" and max(len(a.args), len(r.args)) > 2):
        return None
    if len(a.args) != len(r.args):
        return False
    if any(n == Const("dots") for side in (a, r) for n in walk(side)):
        return compare.ordered(a.args, r.args)
    first, other = a.args[0], r.args[0]
    pairs = zip(a.args[1:], r.args[1:], strict=True)
    return all(compare(Op("mul", (x, other)), Op("mul", (y, first))) for x, y in pairs)


_RULES: tuple[Callable[[Comparison, Node, Node], bool | None], ...] = (
    _words, _clock, _connective, conditions.congruent, conditions.excluded, _base, _relation,
    _real_sets, _unions, _matrix, _sequences, _ratio,
)  # fmt: skip


def _plain(node: Node) -> Node:
    """Without brackets that say nothing: a set or list of one."""
    if isinstance(node, Seq) and node.left in ("\\{", "") and len(node.items) == 1 and not sets.sets_held(node):
        return node.items[0]
    return node


def _all_named(items: tuple[Node, ...]) -> bool:
    return bool(items) and all(relations.named(i) for i in items)


def _named_apart(items: list[Node]) -> bool:
    """Whether the items carry different names, so that a bare list must keep their order."""
    named = [relations.named(i) for i in items]
    return len(items) > 1 and all(named) and len({n[0] for n in named if n}) == len(items)


def _share_name(items: list[Node]) -> list[Node]:
    """`x = 1, 2, 3` gives its name to all; names that are all the same say nothing."""
    named = [relations.named(i) for i in items]
    first = named[0] if named else None
    if first and len(items) > 1 and not any(isinstance(i, Rel) for i in items[1:]):
        return [first[1][-1], *items[1:]]
    if len(items) > 1 and all(named) and len({n[0] for n in named if n}) == 1:
        return [n[1][-1] for n in named if n]
    return items


def _distinct(items: list[Node]) -> list[Node]:
    """Tuples listed twice count once: they are solutions, and a solution repeated is no other."""
    return list(dict.fromkeys(items)) if any(isinstance(i, Seq) for i in items) else items


def _has_matrix(node: Node) -> bool:
    return isinstance(node, Matrix) or any(isinstance(n, Matrix) for n in walk(node))


def _expanded(node: Node) -> list[Node]:
    items = list(node.items) if isinstance(node, Seq) and node.left in ("", "\\{") else [node]
    return [either for item in _share_name(items) for either in plus_minus.expanded(item)]
