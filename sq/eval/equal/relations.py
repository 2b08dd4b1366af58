"""Equations and inequalities: equal up to rearranging and a constant factor; and the values that names are given.

`y = 2x + 3` is `2x - y + 3 = 0`; `x = 5` answers `5`; `11a + c` does not answer `7 = 11a + c`.
"""

from __future__ import annotations

import re
from typing import Any

from mpmath import mp  # type: ignore[import-untyped]

from sq.eval.equal import names
from sq.eval.equal.identity import DIGITS, points, same, value_at
from sq.eval.equal.tree import Const, Node, Op, Rel, Seq, Sym, replace, symbols, walk
from sq.eval.equal.value import Uncomputable

FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!=", "~": "~", "cong": "cong", "sim": "sim"}
_VALUED = frozenset({"=", "~", "in", ":="})


def named(node: Node) -> tuple[str, tuple[Node, ...]] | None:
    """The name and the candidate values of `x = 5`, `x = 1 + 1 = 2` or `x = pi/4 ~ 0.785`; None for other nodes."""
    if isinstance(node, Op) and node.op == "mod":
        node = node.args[0]
    if not isinstance(node, Rel) or not set(node.ops) <= _VALUED:
        return None
    if node.ops == ("=",) and not node.names[0] and node.names[1] and not symbols(node.parts[0]):  # 5 = x
        return node.names[1], (node.parts[0],)
    if not node.names[0]:
        return None
    return node.names[0], _values(node.parts[1:], node.ops[1:])


def plain_values(node: Node) -> tuple[Node, ...] | None:
    """The candidate values of a chain without a name that holds for all letters: `1/2 = 0.5`, `(x+1)^2 = x^2+2x+1`."""
    if isinstance(node, Rel) and not node.names[0] and set(node.ops) <= {"=", "~"}:
        if set(node.ops) == {"~"} or not any(symbols(p) for p in node.parts):
            return _values(node.parts, node.ops)
        if _written_out(node.parts) or _identical(node.parts) or _computed(node.parts):
            return _values(node.parts, node.ops)
    return None


def _written_out(parts: tuple[Node, ...]) -> bool:
    """Whether a sum or product with dots, which have no value, has its closed form behind it."""
    first, last = parts[0], parts[-1]
    dots = isinstance(first, Op) and first.op in ("add", "mul") and any(n == Const("dots") for n in walk(first))
    return dots and symbols(first) == symbols(last)


def _computed(parts: tuple[Node, ...]) -> bool:
    """Whether a quantity is followed by its value worked out, `a^2 + b^2 = 3 + 4 = 7`: no equation of unknowns."""
    return len(parts) > 2 and not any(symbols(p) for p in parts[1:]) and _identical(parts[1:])


def _identical(parts: tuple[Node, ...]) -> bool:
    try:
        return all(same(part, parts[-1]) for part in parts[:-1])
    except Uncomputable:
        return False


def _values(parts: tuple[Node, ...], ops: tuple[str, ...]) -> tuple[Node, ...]:
    if "~" in ops:
        exact_end = ops.index("~")
        return (parts[exact_end], parts[-1])
    return (parts[-1],)


def of_other_variables(a: Node, b: Node) -> bool:
    """Whether both are conditions on one variable each, and on different ones: `x < 5` and `y < 5`."""
    if not (isinstance(a, Rel) and isinstance(b, Rel)):
        return False
    ours, theirs = _variables(a), _variables(b)
    return len(ours) == len(theirs) == 1 and ours != theirs


def unknown(node: Node) -> str:
    """What is given a value, or the one variable of a condition; nothing for other nodes."""
    if isinstance(node, Rel) and (value := named(node)):
        return value[0]
    variables = _variables(node) if isinstance(node, Rel) else set[str]()
    return variables.pop() if len(variables) == 1 else ""


def _variables(node: Rel) -> set[str]:
    names = set().union(*(symbols(p) for p, n in zip(node.parts, node.names, strict=True) if not n))
    return names | {n for n in node.names if n}


def spread(items: list[Node]) -> list[Node]:
    """Named tuples apart: `(x, y) = (3, 4)` is `x = 3` and `y = 4`; but not where bare tuples stand beside them."""
    if any(isinstance(i, Seq) for i in items):
        return items
    relations: list[Node] = []
    for item in items:
        if isinstance(item, Rel) and item.ops == ("=",) and isinstance(item.parts[0], Seq) and item.names[0]:
            left, right = item.parts
            if isinstance(left, Seq) and isinstance(right, Seq) and len(left.items) == len(right.items):
                pairs = zip(left.items, right.items, strict=True)
                relations.extend(Rel((a, b), ("=",), (a.name if isinstance(a, Sym) else "", "")) for a, b in pairs)
                continue
        relations.append(item)
    return relations


def common_name(a: str, b: str) -> bool:
    """Whether two names are of one quantity: `f(x)` and `f(n)`, `y` and `f(x)`, `|AB|` and `AB`."""
    if a == b or _core(a) == _core(b) or (len(a) == len(b) == 1 and a.lower() == b.lower()):
        return True
    if "(" in a[1:] or "(" in b[1:]:
        if names.head(a) == names.head(b):
            ours, theirs = names.arguments(a), names.arguments(b)
            letters = all(re.fullmatch(r"\\[A-Za-z]+|[a-z]+", arg) for arg in ours + theirs)
            return letters and (ours == theirs or sorted(ours) != sorted(theirs))
        return ("(" in a[1:]) != ("(" in b[1:]) and (a == "y" or b == "y")
    return False


def solutions(items: list[Node]) -> list[Node]:
    """`x = 1, y = 2` or `x = 3, y = 4` as the pairs `(1, 2)` and `(3, 4)`, in the order of their names."""
    named_items = [named(i) for i in items]
    labels = [n[0] for n in named_items if n]
    width = len(set(labels))
    if len(labels) < len(items) or width < 2 or len(items) <= width or labels != labels[:width] * (len(items) // width):
        return items
    values = [n[1][-1] for n in named_items if n]
    order = sorted(range(width), key=lambda k: labels[k])
    return [Seq("(", ")", tuple(values[start + k] for k in order)) for start in range(0, len(items), width)]


def enumerated(items: list[Node]) -> tuple[Node, ...] | None:
    """The values of `x_1 = 2, x_2 = 3`, whose subscripts only count them; None for other lists."""
    named_items = [named(i) for i in items]
    parts = [re.fullmatch(r"(\\?[A-Za-z]+)_(\d)", n[0]) for n in named_items if n]
    if len(items) < 2 or len(parts) < len(items) or not all(parts):
        return None
    heads, marks = ({m.group(k) for m in parts if m} for k in (1, 2))
    return tuple(n[1][-1] for n in named_items if n) if len(heads) == 1 and len(marks) == len(items) else None


def _core(name: str) -> str:
    return re.sub(r"\\(?:angle|triangle|mathrm|mathbf|text|vec|overline|operatorname)|\|(?![a-z])|[{}\s]", "", name)


def renamed(value: Node, from_name: str, to_name: str) -> Node:
    """A value in the other's variable: the `n` of `f(n) = n` for the `x` of `f(x) = x`."""
    ours, theirs = names.arguments(from_name), names.arguments(to_name)
    if len(ours) != len(theirs) or ours == theirs:
        return value
    return replace(value, {a: Sym(b) for a, b in zip(ours, theirs, strict=True) if re.fullmatch(r"[A-Za-z]", a)})


def same_equation(a: Rel, b: Rel) -> bool:
    """Whether two relations hold for the same points: their differences are a constant multiple of one another."""
    if len(a.ops) != 1 or len(b.ops) != 1 or a.ops[0] not in FLIP or b.ops[0] not in FLIP:
        return False
    left, right = _difference(a), _difference(b)
    names_in = symbols(left) | symbols(right)
    if not names_in:
        return False
    ratio = _constant_ratio(left, right, names_in)
    if ratio is None:
        return _solved_form(a, right) or _solved_form(b, left) if a.ops == b.ops == ("=",) else False
    if a.ops[0] in ("=", "!=", "~"):
        return a.ops[0] == b.ops[0]
    return a.ops[0] == (b.ops[0] if ratio > 0 else FLIP[b.ops[0]])


def _difference(node: Rel) -> Node:
    return Op("add", (node.parts[0], Op("neg", (node.parts[1],))))


def _constant_ratio(a: Node, b: Node, names_in: frozenset[str]) -> Any:
    with mp.workdps(DIGITS):
        ratio, compared = None, 0
        for point in points(names_in):
            x, y = value_at(a, point), value_at(b, point)
            if x is None or y is None or mp.im(x) or mp.im(y):
                continue
            if x == 0 or y == 0:
                return None
            if ratio is not None and abs(x / y - ratio) > abs(ratio) * mp.mpf(10) ** -25:
                return None
            ratio, compared = x / y, compared + 1
        return ratio if compared >= 2 else None


def _solved_form(solved: Rel, other: Node) -> bool:
    """Whether `y = g(x)` puts the other equation to zero, and that one is linear in `y`: then they are the same."""
    left, right = solved.parts
    if not isinstance(left, Sym) or left.name in symbols(right) or left.name not in symbols(other):
        return False
    with mp.workdps(DIGITS):
        compared = 0
        for point in points(symbols(other) | symbols(right)):
            root = value_at(right, point)
            if root is None or mp.im(root):
                continue
            far = -2 * abs(root) - 1_000  # beyond zero, where |y| is another line than y
            at = [value_at(other, {**point, left.name: root + step}) for step in (0, 1, far)]
            if any(v is None or mp.im(v) for v in at):
                continue
            scale = abs(at[1]) + abs(at[2])
            if (
                abs(at[0]) > scale * mp.mpf(10) ** -25
                or abs(at[2] - far * at[1]) > scale * mp.mpf(10) ** -25
                or not scale
            ):
                return False
            compared += 1
        return compared >= 2
